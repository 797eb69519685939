// Limits of the control plane, each with its reason.
#ifndef PBKFS_SERVICE_LIMITS_H_
#define PBKFS_SERVICE_LIMITS_H_

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
#include "fs/diff/limits.h"

namespace pbkfs {

// A mount costs threads (8 by default) and descriptors; at a thousand a typo in a loop shows before
// the machine is out of either.
inline constexpr size_t kMaxMounts = 1024;

// What the configuration says where it says nothing, and the bounds of what it may say. A mount is
// rarely asked for more than a few times a second, so that many calls at once are a mistake.
inline constexpr uint32_t kDefaultMaxMounts = 256;
inline constexpr uint32_t kDefaultMaxConnections = 256;
inline constexpr uint32_t kMaxConnectionsBound = 16384;
inline constexpr uint32_t kDefaultMaxConcurrentCalls = 64;
inline constexpr uint32_t kMaxConcurrentCallsBound = 1024;  // Each takes a thread.
inline constexpr uint32_t kDefaultMaxRequestBytes = 1 << 20;
inline constexpr uint32_t kMinRequestBytes = 16 << 10;       // A request with a few paths.
inline constexpr uint32_t kMaxRequestBytesBound = 64 << 20;  // As many settings as there may be.
// Below this a cache holds next to nothing.
inline constexpr int64_t kMinBudgetBytes = 1 << 20;
inline constexpr int64_t kMaxBudgetBytes = int64_t{1} << 40;
inline constexpr absl::Duration kMaxStatsInterval = absl::Hours(24 * 365);
// An address that a worker which takes over can't serve at once is tried again so often.
inline constexpr std::chrono::milliseconds kLateStartPeriod{5000};
// A configuration file: a thousand mounts with many settings.
inline constexpr size_t kMaxConfigBytes = 4 << 20;
// Problems of a file that are told at once.
inline constexpr size_t kMaxConfigErrors = 20;

// Connections of processes that are not allowed to call: enough to tell each why.
inline constexpr uint32_t kMaxRefusedConnections = 16;
// The log is not filled with connections that are too many.
inline constexpr absl::Duration kConnectionComplaintPeriod = absl::Seconds(5);
// Everything that clients sent and nobody has taken yet: at more, gRPC reads slower and then drops
// connections.
inline constexpr size_t kApiMemoryBytes = 128 << 20;
// A TLS client that has not introduced itself by then is cut off.
inline constexpr std::chrono::milliseconds kHandshakeTimeout{10'000};
// A connection on which nothing moves is asked this often, and ends where nobody answers in time: a
// client that hangs, or one that never spoke HTTP/2.
inline constexpr std::chrono::milliseconds kKeepalivePeriod{30'000};
inline constexpr std::chrono::milliseconds kKeepaliveTimeout{10'000};
// Of the parameters of a call in the log.
inline constexpr size_t kMaxLoggedParameterBytes = 8 << 10;
// Certificates and keys are a few KiB; a list of many authorities is longer.
inline constexpr size_t kMaxPemBytes = 4 << 20;

// The part of a limit on mounts, calls or connections that a caller may use: the last quarter is
// kept for administrators, so that nobody can lock them out.
inline constexpr uint32_t LimitFor(bool administrator, uint32_t all) {
  return administrator ? all : all - all / 4;
}

// Length of mount_id: it becomes a directory name, a metric label and a health service name
// ("mount/<id>").
inline constexpr size_t kMaxMountIdLength = 63;

// The kernel's PATH_MAX without the final NUL.
inline constexpr size_t kMaxPathLength = 4095;
// The kernel's own bound on symbolic links in one path walk.
inline constexpr int kMaxSymlinks = 40;

// More than this many threads on one mount never paid off in measurements and makes teardown slow.
inline constexpr uint32_t kDefaultThreads = 8;
inline constexpr uint32_t kMaxThreads = 256;
// … of a caller that is no administrator, unless the configuration's default is more: all the
// mounts that he may make together take no more threads than a process of his own could.
inline constexpr uint32_t kMaxCallerThreads = 32;

// Configuration files of PostgreSQL are a few dozen KiB; larger ones are not read into memory.
inline constexpr int64_t kMaxConfigFileBytes = 4 << 20;
// PostgreSQL's own bound on nested include directives.
inline constexpr int kMaxConfigDepth = 10;
// Files that the include directives of one configuration may pull in: an untrusted backup must not
// make a mount slow.
inline constexpr int kMaxConfigFiles = 256;

// Server settings of a request: each becomes a line in two files and an argument of start_command.
inline constexpr size_t kMaxSettings = 256;
inline constexpr size_t kMaxSettingBytes = 64 << 10;

// The health contract is 5 s from a failure to NOT_SERVING: a probe each 2 s, and a probe that has
// not answered for 4 s counts as failed.
inline constexpr std::chrono::milliseconds kHealthProbePeriod{2000};
inline constexpr std::chrono::milliseconds kHealthProbeOverdue{4000};
// What is counted for the daemon as a whole is lost with a worker for this time at most.
inline constexpr std::chrono::seconds kKeepFiguresPeriod{1};
// Each takes a thread.
inline constexpr uint32_t kMaxHealthWatchers = 256;
// How often Health.Watch looks for a change and for a caller that went away.
inline constexpr std::chrono::milliseconds kHealthWatchPeriod{250};

// Between attempts to unmount a busy target while Unmount waits.
inline constexpr std::chrono::milliseconds kUnmountRetryPeriod{50};
// An Unmount waits no longer than this, whatever the request says.
inline constexpr std::chrono::hours kMaxUnmountWait{24};

// What a new diff takes before anybody writes: its log with its reserve, its directories, the
// configuration files of the clone. Where that does not fit there is no mount.
inline constexpr int64_t kNewDiffBytes = kLogReserveBytes + (64 << 10);

// A file of the registry of mounts: a request and its answer, with as many settings and paths as
// they may have.
inline constexpr size_t kMaxMountRecordBytes = 64 << 20;

// Mounts that go on at the same time after a worker died: each reads lists of backups and a log.
inline constexpr size_t kResumeThreads = 4;

// A stop names the mounts that are in use this often while it waits for them.
inline constexpr absl::Duration kBusyReportPeriod = absl::Seconds(30);
// A stop detaches what is still in use after this long.
inline constexpr absl::Duration kMaxBusyWait = absl::Hours(24);

// A request that is in flight for this long is named in the log.
inline constexpr absl::Duration kOldRequest = absl::Seconds(10);
// … and again while it, or another one, still is.
inline constexpr absl::Duration kOldRequestReportPeriod = absl::Minutes(1);

// A mount whose daemon is gone answers at once; one that does not within this time is served.
inline constexpr std::chrono::seconds kDeadMountAnswer{5};

// A session notices within this time that its mount was detached by somebody else.
inline constexpr std::chrono::milliseconds kDetachedGrace{1000};

// What is left of the mounts of a daemon that stops is given up after this: a read of a dead file
// server can't be ended, and service managers kill after 90 s. Loses nothing that was acknowledged.
inline constexpr std::chrono::seconds kStopLimit{45};
// Calls that are running get this long to finish when the daemon stops.
inline constexpr std::chrono::seconds kShutdownGrace{5};

// A mount waits no longer than this for pg_probackup to finish what it does with the chain.
inline constexpr absl::Duration kCatalogLockWait = absl::Seconds(5);
// How long a lock holder may take to answer or to end beyond that: it writes two small files.
inline constexpr std::chrono::seconds kLockHolderExitWait{3};
// Between attempts to give back a lock while somebody else works on the lock files.
inline constexpr std::chrono::milliseconds kLockReleaseRetryPeriod{500};
// Lines of the record of locks that are looked at: as many mounts with chains of a thousand.
inline constexpr size_t kMaxLockRecords = kMaxMounts * 1000;
// A chain that changes again each time it was locked is given up.
inline constexpr int kMaxChainLockAttempts = 3;

// Warnings and errors that are kept in memory for a bug report, and the bytes of each.
inline constexpr size_t kMaxRecentLogLines = 1000;
inline constexpr size_t kMaxRecentLogLineBytes = 2000;
inline constexpr uint32_t kDefaultDumpLogLines = 200;

// Processes named in the message about a busy target.
inline constexpr size_t kMaxNamedUsers = 5;

// pg_ctl gives up after this long: recovery of a backup may replay a lot of WAL.
inline constexpr int kStartTimeoutSeconds = 3600;

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_LIMITS_H_
