// A checkpoint of a diff in use: the log is written anew, without what later records made
// unnecessary, while mutations go on.
//
// It is made from the old log's own records, so that replaying either gives the same state. It has
// two layers. The first is the state that the records up to some point make, less what the loss of
// the page cache may still take back: for an inode whose data file is not confirmed, nothing later
// than what is. The second is every other record, in order and with its sequence (FORMAT.md,
// "Checkpoint").
//
// One at a time. Begin and CarryOver run beside appends; Finish runs under the log's append lock.
#ifndef PBKFS_FS_DIFF_ONLINE_CHECKPOINT_H_
#define PBKFS_FS_DIFF_ONLINE_CHECKPOINT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/io.h"
#include "fs/diff/checkpoint.h"
#include "fs/diff/log_reader.h"
#include "fs/diff/meta_log.h"
#include "fs/diff/replay.h"

namespace pbkfs {

class OnlineCheckpoint {
 public:
  // `directory` is the diff's and outlives the checkpoint, `old_log` its log now.
  OnlineCheckpoint(IoDir& directory, const ReplayBase& base, std::shared_ptr<IoFile> old_log)
      : directory_(directory), base_(base), old_log_(std::move(old_log)) {}

  // Makes the new file out of the records before byte `end`, and syncs it.
  // `unanswered` are the requests that the records before `end` answer, and that may be sent again.
  absl::Status Begin(int64_t end, std::vector<AnswerRecord> unanswered);
  // Carries the records before byte `end` over that are not in the new file yet, and syncs it.
  absl::Status CarryOver(int64_t end);
  // Bytes of the old log that were taken over.
  int64_t taken() const { return taken_; }
  // What Begin wrote.
  int64_t state_bytes() const { return state_bytes_; }
  // The last step: what is left up to `end`, the reserve, the name, durably. `*renamed` tells
  // whether a failure left the new file in the old one's place.
  absl::StatusOr<NewLog> Finish(int64_t end, bool* renamed);
  // After a failure: removes the new file, unless it is the log.
  void Abandon();

 private:
  absl::Status WriteLayers(const ParsedLog& log, std::vector<AnswerRecord> unanswered);

  IoDir& directory_;
  const ReplayBase base_;
  const std::shared_ptr<IoFile> old_log_;
  std::shared_ptr<IoFile> new_log_;
  std::optional<CheckpointWriter> writer_;
  uint64_t old_seed_ = 0;  // Of the last epoch of the old log.
  int64_t taken_ = 0;
  int64_t state_bytes_ = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_ONLINE_CHECKPOINT_H_
