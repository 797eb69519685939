// Reads a diff's log back into a state, after a clean unmount, after the death of a process (page
// cache intact) or after the loss of the page cache. FORMAT.md, "Recovery", says what each case may
// and may not lose.
#ifndef PBKFS_FS_DIFF_RECOVERY_H_
#define PBKFS_FS_DIFF_RECOVERY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fs/base/io.h"
#include "fs/diff/meta_log.h"
#include "fs/diff/records.h"
#include "fs/diff/replay.h"

namespace pbkfs {

struct Recovered {
  DiffState state;
  LogPosition position;  // Where the log ends, cut already.
  ShutdownKind shutdown = ShutdownKind::kClean;
  uint64_t generation = 0;
  PageCacheEvidence evidence;     // Of the last open.
  std::vector<uint64_t> orphans;  // Inodes without a name.
  bool needs_checkpoint = false;  // The log no longer tells the state.
  // Destructions that were finished now; the log does not say so yet.
  std::vector<CutRecord> cuts;
};

// Everything that recovery needs of a diff directory.
struct RecoverySource {
  Io& io;
  IoDir& directory;  // The diff.
  IoDir& data;       // Its data/.
  ReplayBase base;
  // Not 0: the session with this nonce goes on, its directory having been held open since it began.
  // The page cache is intact, nothing is waited for, and the log goes on.
  uint64_t session = 0;
};

// Reads the log `log` of the diff and applies it. Finishes in the data files what the log says was
// begun, cuts them to what may be believed, and makes that durable where the page cache was lost;
// the caller then writes a checkpoint. DATA_LOSS (DIFF_CORRUPT) where confirmed records are
// damaged.
absl::StatusOr<Recovered> RecoverLog(const RecoverySource& source, IoFile& log);

// Where a log goes on: an fsync that had nothing to say in it may have confirmed bytes past the
// size that the last Synced tells.
void ConfirmSizes(DiffState* state);

// Name of an inode's file in data/.
std::string DataFileName(uint64_t ino);

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_RECOVERY_H_
