// What requests about names were answered, for those that the kernel may send again.
//
// A request is executed once: when the process that executed it dies before the kernel had the
// answer, the kernel sends it again to the next process, which finds here what the first one
// answered. The table holds the requests that this process has executed and not yet answered (a
// checkpoint of the log carries them over), and, from a takeover until every request that was sent
// again is answered, what the log says of this session. Thread-safe.
#ifndef PBKFS_FS_OVERLAY_ANSWER_TABLE_H_
#define PBKFS_FS_OVERLAY_ANSWER_TABLE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "fs/base/mutex.h"
#include "fs/diff/records.h"

namespace pbkfs {

class AnswerTable {
 public:
  // What the log of the session says. Once, before the first request.
  void Load(std::vector<AnswerRecord> answers) ABSL_LOCKS_EXCLUDED(mutex_);

  // The inode of the first answer to this request, which must be the same in everything but `ino`;
  // 0 where the answer names none. Nothing where the request was not executed. One that has the
  // number of an executed request, but not its operation and names, is logged and is to be
  // executed.
  std::optional<uint64_t> Find(const AnswerRecord& request) const ABSL_LOCKS_EXCLUDED(mutex_);

  // The record of the request is in the log; its answer is not given yet. Requests without a
  // number, the control plane's, are never asked again.
  void Remember(AnswerRecord answer) ABSL_LOCKS_EXCLUDED(mutex_);
  // The kernel has the answer, or wants none.
  void Answered(uint64_t unique) ABSL_LOCKS_EXCLUDED(mutex_);
  // Every request that was sent again is answered: what Load brought is of no more use.
  void EndOfResends() ABSL_LOCKS_EXCLUDED(mutex_);

  // Everything that may be asked for again: what a checkpoint must carry.
  std::vector<AnswerRecord> Unanswered() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable Mutex mutex_;
  absl::flat_hash_map<uint64_t, AnswerRecord> loaded_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, AnswerRecord> executed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_FS_OVERLAY_ANSWER_TABLE_H_
