// Limits of the keeper, each with its reason.
#ifndef PBKFS_SERVICE_KEEPER_LIMITS_H_
#define PBKFS_SERVICE_KEEPER_LIMITS_H_

#include <chrono>

namespace pbkfs {

// Deaths are counted within this time.
inline constexpr std::chrono::seconds kDeathWindow{60};
// Deaths by the worker's own fault (a signal that is not SIGKILL, or an exit) in that time: the
// same request crashes each worker, and whoever waits for it gets an error sooner.
inline constexpr size_t kMaxCrashes = 10;
// Workers in a row that crashed before the mounts went on. One that was killed by somebody else
// says nothing about the next.
inline constexpr int kMaxFailedStarts = 5;
// Before a worker is started after one that never became ready, times the number of those.
inline constexpr std::chrono::milliseconds kStartDelay{200};

// The next worker waits so long for the end of what the last one had asked for and not got: it
// undoes a mount that was not complete, and must not do so while we still mount or unmount it. A
// target on a file system that does not answer holds up nothing else for longer.
inline constexpr std::chrono::seconds kUnfinishedTimeout{3};

// A worker that is not ready after this time is killed. Most of it is for reading the lists of many
// large backups from a slow disk.
inline constexpr std::chrono::seconds kReadyTimeout{60};
// The same for the first worker of a new program, which is given up then.
inline constexpr std::chrono::seconds kUpgradeTimeout{30};
// What a new program may take to say that it reads our state.
inline constexpr std::chrono::seconds kCheckTimeout{10};
// Between the answer to an upgrade and the end of the worker, which passes the answer on.
inline constexpr std::chrono::milliseconds kUpgradeDelay{500};
// A worker that died but whose threads the kernel does not let go: what they hold is given up.
inline constexpr std::chrono::seconds kStuckTimeout{10};

// How often the keeper looks at the clock while it waits for something.
inline constexpr std::chrono::milliseconds kTick{500};

// Of the keeper itself: never. It is small, and everything hangs on it; with any other score it is
// what is left to kill in the moment after the worker was, or dies with its whole control group.
inline constexpr int kKeeperOomScore = -1000;

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_KEEPER_LIMITS_H_
