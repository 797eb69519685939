// Writes the state of a diff as a new log and puts it in the old one's place, when a diff is
// opened. What is done while a diff is in use is in online_checkpoint.h.
#ifndef PBKFS_FS_DIFF_CHECKPOINT_H_
#define PBKFS_FS_DIFF_CHECKPOINT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "fs/base/io.h"
#include "fs/diff/meta_log.h"
#include "fs/diff/replay.h"

namespace pbkfs {

// Writes a log file from its beginning: a header, a state, an Open record, and records that are
// carried over. Buffers; Flush before the file is synced. The file must be empty.
class CheckpointWriter {
 public:
  CheckpointWriter(IoFile& file, uint64_t generation);

  // Inodes without a name are written where `online`: somebody may have them open. Otherwise nobody
  // can, and everything in `state` is durable in the data files.
  absl::Status WriteState(const DiffState& state, OpenRecord open, uint64_t open_sequence,
                          bool online);
  // One more record, with its own sequence.
  absl::Status Carry(const Record& record, uint64_t sequence);
  absl::Status Flush();

  int64_t end() const { return end_ + static_cast<int64_t>(buffer_.size()); }
  uint64_t seed() const { return seed_; }

 private:
  absl::Status Raw(const std::string& bytes);
  absl::Status State(const Record& record);
  absl::Status WritePresent(const InodeState& state);
  absl::Status WriteNames(const DirectoryTable& names);

  IoFile& file_;
  const uint64_t seed_;
  const uint64_t generation_;
  std::string buffer_;
  int64_t end_ = 0;  // Of what was handed to the file.
  uint64_t state_records_ = 0;
};

// Begins a new log with `state`, in which everything is durable. `open` begins the new log's only
// epoch: the file has one seed, so that damage anywhere in it is told from its end. On failure the
// old log is untouched.
absl::StatusOr<NewLog> ReplaceLogByCheckpoint(IoDir& directory, const DiffState& state,
                                              const OpenRecord& open, uint64_t generation);

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_CHECKPOINT_H_
