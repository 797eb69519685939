// Limits of the metrics address, each with its reason.
#ifndef PBKFS_SERVICE_METRICS_LIMITS_H_
#define PBKFS_SERVICE_METRICS_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace pbkfs {

// Each connection takes a thread while it is served, also one that says nothing. Prometheus gives
// up after 10 s: so many slow clients must be over before, threads times that by request time-out.
inline constexpr int kWebThreads = 16;
// A request that has not arrived after this is given up, and so is a client that takes nothing of
// its answer.
inline constexpr absl::Duration kWebTimeout = absl::Seconds(2);
// A whole answer, however slowly its client takes it.
inline constexpr absl::Duration kWebAnswerLimit = absl::Seconds(5);
// An answer is written in pieces of this size, between which the limit is looked at.
inline constexpr size_t kWebPieceBytes = 16 << 10;
// Figures are sampled by one thread at a time. Others wait for it so long, since a file system
// below a diff may never answer.
inline constexpr absl::Duration kSampleWait = absl::Seconds(2);

// The status page asks to be loaded again after this.
inline constexpr int kPageRefreshSeconds = 5;
// More mounts than anybody reads on one page.
inline constexpr size_t kMaxPageMounts = 200;
// As the log and the alert rules have it: a request is in flight for too long.
inline constexpr int64_t kHungRequestSeconds = 10;

// WatchStats: between two samples of one stream.
inline constexpr absl::Duration kMinWatchInterval = absl::Milliseconds(100);
inline constexpr absl::Duration kDefaultWatchInterval = absl::Seconds(1);
inline constexpr absl::Duration kMaxWatchInterval = absl::Hours(1);
// One thread serves all streams: a sample of all mounts takes well below a millisecond a mount.
inline constexpr size_t kMaxWatchStreams = 64;
// How often a stream looks whether its mount is still there, whatever its interval is.
inline constexpr absl::Duration kWatchMountPeriod = absl::Milliseconds(250);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_METRICS_LIMITS_H_
