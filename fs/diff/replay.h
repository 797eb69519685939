// Turns the records of a log into a state: after a clean end, after the death of a process (all
// records count), or after the loss of the page cache (only what was synced counts).
#ifndef PBKFS_FS_DIFF_REPLAY_H_
#define PBKFS_FS_DIFF_REPLAY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "fs/base/lower_tree.h"
#include "fs/diff/directory_table.h"
#include "fs/diff/inode_state.h"
#include "fs/diff/limits.h"
#include "fs/diff/records.h"

namespace pbkfs {

// Everything that a diff says, in memory.
struct DiffState {
  absl::flat_hash_map<uint64_t, std::unique_ptr<InodeState>>
      inodes;  // Only those that the diff changed.
  DirectoryTable names;
  uint64_t next_ino = kFirstNewIno;
  uint64_t next_sequence = 1;
  // What requests of a session that goes on were answered, those that may be sent again included.
  std::vector<AnswerRecord> answers;
  // Inodes that the log removed and whose data files are still there, in a session that goes on.
  std::vector<uint64_t> doomed;
};

enum class ShutdownKind {
  kClean,        // The log ends with CleanUnmount.
  kProcessDied,  // Page cache intact: nothing that was replied to is lost.
  kCacheLost,    // Only what was synced counts.
};

// The image below a diff, and who owns its files in it.
struct ReplayBase {
  const LowerTree& lower;
  uint32_t owner_uid;
  uint32_t owner_gid;
};

// What the log says of the durability of one inode.
struct InodeProof {
  uint64_t confirmed = 0;    // The highest sequence that a Synced covers.
  uint64_t last_layout = 0;  // Sequence of the last DataFile, Present, Size or Punch.
  uint64_t data_file = 0;    // Sequence of the DataFile record, where the log has it.
  uint64_t uncut = 0;        // A destruction without its Cut.
  bool has_data = false;
  bool failed = false;  // A sync failed.
  bool reaped = false;
};
struct LogProof {
  absl::flat_hash_map<uint64_t, InodeProof> inodes;
  uint64_t all_confirmed = 0;  // Sequence of the last clean unmount.
};
LogProof CollectProof(const std::vector<DecodedRecord>& records);

// A range of a data file whose bytes a record destroyed.
struct DestroyedRange {
  uint64_t sequence = 0;  // Of the record.
  int64_t begin = 0;
  int64_t end = 0;
};

class Replayer {
 public:
  // `proof` is that of all records of the log. `session` not 0: the session with this nonce goes
  // on; it shows what it showed, and its answers are kept.
  Replayer(const ReplayBase& base, const LogProof& proof, ShutdownKind shutdown,
           uint64_t session = 0)
      : base_(base),
        proof_(proof),
        cache_lost_(shutdown == ShutdownKind::kCacheLost),
        session_(session) {}

  // DATA_LOSS (DIFF_CORRUPT) where the records contradict themselves or the image. Records that
  // `select` refuses are passed over.
  absl::Status Run(const std::vector<DecodedRecord>& records,
                   absl::FunctionRef<bool(const DecodedRecord&)> select);
  absl::Status Run(const std::vector<DecodedRecord>& records) {
    return Run(records, [](const DecodedRecord&) { return true; });
  }

  DiffState& state() { return state_; }
  // Whether only what was synced may be believed of an inode: after a loss, and where a sync
  // failed, since the kernel may have thrown away the pages that it could not write.
  bool Lost(uint64_t ino) const;
  // What records destroyed in the data file of `ino` that may still be there.
  absl::Span<const DestroyedRange> Destroyed(uint64_t ino) const;

 private:
  bool Confirmed(uint64_t ino, uint64_t sequence) const;
  void Remember(AnswerRecord answer);
  InodeState* Touch(uint64_t ino);
  template <typename Function>
  absl::Status With(uint64_t ino, Function apply);
  template <typename Function>
  absl::Status ApplyBlocks(uint64_t ino, Function apply);
  absl::Status CheckInode(const InodeRecord& record) const;
  absl::Status CheckAbsent(uint64_t parent, absl::string_view name) const;
  absl::Status CheckNames(uint64_t parent, absl::string_view name, uint64_t ino) const;
  absl::Status AddName(uint64_t parent, const std::string& name, uint64_t ino, uint64_t sequence,
                       int64_t time);
  absl::Status RemoveName(uint64_t parent, const std::string& name, uint64_t ino, uint64_t sequence,
                          int64_t time);

  absl::Status Apply(const OpenRecord&, uint64_t) { return absl::OkStatus(); }
  absl::Status Apply(const CreateRecord& record, uint64_t sequence);
  absl::Status Apply(const LinkRecord& record, uint64_t sequence);
  absl::Status Apply(const UnlinkRecord& record, uint64_t sequence);
  absl::Status Apply(const RenameRecord& record, uint64_t sequence);
  absl::Status Apply(const SetAttrRecord& record, uint64_t sequence);
  absl::Status Apply(const DataFileRecord& record, uint64_t sequence);
  absl::Status Apply(const PresentRecord& record, uint64_t sequence);
  absl::Status Apply(const SizeRecord& record, uint64_t sequence);
  absl::Status Apply(const PunchRecord& record, uint64_t sequence);
  absl::Status Apply(const CutRecord& record, uint64_t sequence);
  absl::Status Apply(const SyncedRecord& record, uint64_t sequence);
  absl::Status Apply(const FailedRecord& record, uint64_t sequence);
  absl::Status Apply(const ReapRecord& record, uint64_t sequence);
  absl::Status Apply(const CleanUnmountRecord& record, uint64_t sequence);
  absl::Status Apply(const CheckpointBeginRecord& record, uint64_t sequence);
  absl::Status Apply(const InodeRecord& record, uint64_t sequence);
  absl::Status Apply(const PresentRunsRecord& record, uint64_t sequence);
  absl::Status Apply(const DirentRecord& record, uint64_t sequence);
  absl::Status Apply(const WhiteoutRecord& record, uint64_t sequence);
  absl::Status Apply(const AnswerRecord& record, uint64_t sequence);
  absl::Status Apply(const CheckpointEndRecord&, uint64_t) { return absl::OkStatus(); }

  const ReplayBase base_;
  const LogProof& proof_;
  const bool cache_lost_;
  const uint64_t session_;
  DiffState state_;
  absl::flat_hash_map<uint64_t, std::vector<DestroyedRange>> destroyed_;
  size_t block_set_bytes_ = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_REPLAY_H_
