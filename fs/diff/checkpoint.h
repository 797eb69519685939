// Writes the state of a diff as a new log and puts it in the old one's place.
#ifndef PBKFS_FS_DIFF_CHECKPOINT_H_
#define PBKFS_FS_DIFF_CHECKPOINT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "fs/base/io.h"
#include "fs/diff/meta_log.h"
#include "fs/diff/recovery.h"

namespace pbkfs {

inline constexpr char kLogName[] = "log";
inline constexpr char kNewLogName[] = "log.new";

struct NewLog {
  std::unique_ptr<IoFile> file;
  LogPosition position;
};

// Everything in `state` must be durable in the data files. Inodes without a name are left out:
// nobody can have them open when a diff is opened. `open` begins the new log's only epoch: the file
// has one seed, so that damage anywhere in it is told from its end. On failure the old log is
// untouched.
absl::StatusOr<NewLog> ReplaceLogByCheckpoint(IoDir& directory, const DiffState& state,
                                              OpenRecord open, uint64_t generation);

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_CHECKPOINT_H_
