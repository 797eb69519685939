#include "fs/diff/replay.h"

#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <variant>

#include "absl/strings/str_cat.h"
#include "fs/base/bytes.h"
#include "fs/base/status.h"
#include "fs/diff/log_reader.h"

namespace pbkfs {
namespace {

// Adds what one record says to the proof of its inode.
class ProofCollector {
 public:
  LogProof proof;

  void Add(const DataFileRecord& record, uint64_t sequence) {
    InodeProof& inode = proof.inodes[record.ino];
    inode.has_data = true;
    inode.data_file = inode.last_layout = sequence;
    // Whatever was cut before had no data file, so that nothing is left to destroy.
    inode.uncut = 0;
  }
  void Add(const PresentRecord& record, uint64_t sequence) {
    proof.inodes[record.ino].last_layout = sequence;
  }
  void Add(const SizeRecord& record, uint64_t sequence) {
    InodeProof& inode = proof.inodes[record.ino];
    inode.last_layout = sequence;
    if (record.shrinks != 0) inode.uncut = sequence;
  }
  void Add(const PunchRecord& record, uint64_t sequence) {
    InodeProof& inode = proof.inodes[record.ino];
    inode.last_layout = inode.uncut = sequence;
  }
  void Add(const CutRecord& record, uint64_t) {
    InodeProof& inode = proof.inodes[record.ino];
    if (inode.uncut == record.sequence) inode.uncut = 0;
  }
  void Add(const SyncedRecord& record, uint64_t) { Confirm(record.ino, record.through); }
  void Add(const FailedRecord& record, uint64_t) { proof.inodes[record.ino].failed = true; }
  void Add(const ReapRecord& record, uint64_t) { proof.inodes[record.ino].reaped = true; }
  void Add(const CleanUnmountRecord&, uint64_t sequence) { proof.all_confirmed = sequence; }
  void Add(const InodeRecord& record, uint64_t) {
    Confirm(record.ino, record.synced_through);
    proof.inodes[record.ino].has_data = record.has_data != 0;
  }
  template <typename OtherRecord>
  void Add(const OtherRecord&, uint64_t) {}

 private:
  void Confirm(uint64_t ino, uint64_t through) {
    uint64_t& confirmed = proof.inodes[ino].confirmed;
    confirmed = std::max(confirmed, through);
  }
};

}  // namespace

LogProof CollectProof(const std::vector<DecodedRecord>& records) {
  ProofCollector collector;
  for (const DecodedRecord& record : records) {
    std::visit([&](const auto& value) { collector.Add(value, record.sequence); }, record.record);
  }
  return std::move(collector.proof);
}

absl::Status Replayer::Run(const std::vector<DecodedRecord>& records,
                           absl::FunctionRef<bool(const DecodedRecord&)> select) {
  bool in_checkpoint = true;
  uint64_t lowest = 1;  // That the next record may have.
  for (const DecodedRecord& record : records) {
    if (std::holds_alternative<CheckpointEndRecord>(record.record)) in_checkpoint = false;
    if (record.sequence != 0) {
      if (in_checkpoint || record.sequence < lowest || record.sequence > kMaxCounter) {
        return CorruptLog(absl::StrCat("sequence ", record.sequence, " is out of order"));
      }
      lowest = record.sequence + 1;
      state_.next_sequence = std::max(state_.next_sequence, lowest);
    }
    if (!select(record)) continue;
    PBKFS_RETURN_IF_ERROR(std::visit(
        [&](const auto& value) { return Apply(value, record.sequence); }, record.record));
  }
  return absl::OkStatus();
}

bool Replayer::Lost(uint64_t ino) const {
  if (cache_lost_) return true;
  if (session_ != 0) return false;
  const auto found = proof_.inodes.find(ino);
  return found != proof_.inodes.end() && found->second.failed;
}

absl::Span<const DestroyedRange> Replayer::Destroyed(uint64_t ino) const {
  const auto found = destroyed_.find(ino);
  if (found == destroyed_.end()) return {};
  return found->second;
}

// Keeps what a request of the session that goes on was answered.
void Replayer::Remember(AnswerRecord answer) {
  if (session_ == 0 || answer.request.nonce != session_ || answer.request.unique == 0) return;
  state_.answers.push_back(std::move(answer));
}

bool Replayer::Confirmed(uint64_t ino, uint64_t sequence) const {
  if (!Lost(ino) || sequence <= proof_.all_confirmed) return true;
  const auto found = proof_.inodes.find(ino);
  return found != proof_.inodes.end() && sequence <= found->second.confirmed;
}

// The state of an inode, made from the image where the diff did not know it yet; null where there
// is no such inode.
InodeState* Replayer::Touch(uint64_t ino) {
  auto& slot = state_.inodes[ino];
  if (slot == nullptr) {
    const auto node = ino < kFirstNewIno ? base_.lower.Node(ino) : std::nullopt;
    if (!node.has_value()) {
      state_.inodes.erase(ino);
      return nullptr;
    }
    slot = std::make_unique<InodeState>(
        InodeState::OfLower(base_.lower, *node, base_.owner_uid, base_.owner_gid));
  }
  return slot.get();
}

// Runs `apply` on the state of `ino`, or fails.
template <typename Function>
absl::Status Replayer::With(uint64_t ino, Function apply) {
  InodeState* state = Touch(ino);
  if (state == nullptr) return CorruptLog(absl::StrCat("a record names the unknown inode ", ino));
  apply(*state);
  return absl::OkStatus();
}

// A function that adds blocks to a layout, within the memory that all of them may take.
template <typename Function>
absl::Status Replayer::ApplyBlocks(uint64_t ino, Function apply) {
  size_t before = 0;
  size_t after = 0;
  PBKFS_RETURN_IF_ERROR(With(ino, [&](InodeState& state) {
    before = state.layout.present.MemoryBytes();
    apply(state.layout);
    after = state.layout.present.MemoryBytes();
  }));
  block_set_bytes_ += after - std::min(before, after);
  if (block_set_bytes_ <= kMaxBlockSetBytes) return absl::OkStatus();
  return CorruptLog("it lists more blocks than a diff can have");
}

// What a checkpoint says of an inode must be possible over this image.
absl::Status Replayer::CheckInode(const InodeRecord& record) const {
  int64_t lower_size = 0;
  bool known = record.ino >= kFirstNewIno && record.ino <= kMaxCounter;
  if (record.ino < kFirstNewIno) {
    const auto node = base_.lower.Node(record.ino);
    known = node.has_value() && (node->mode & S_IFMT) == (record.mode & S_IFMT);
    if (known && S_ISREG(node->mode)) lower_size = node->size;
  }
  if (!known) return CorruptLog(absl::StrCat("inode ", record.ino, " is not one of the image"));
  if (record.lower_limit < 0 || record.lower_limit > lower_size ||
      record.lower_limit > record.size || record.size > kMaxFileBytes || record.data_bytes < 0 ||
      record.data_bytes > record.size) {
    return CorruptLog(absl::StrCat("inode ", record.ino, " has an impossible size"));
  }
  return absl::OkStatus();
}

absl::Status Replayer::CheckAbsent(uint64_t parent, absl::string_view name) const {
  if (!state_.names.Lookup(base_.lower, parent, name).has_value()) return absl::OkStatus();
  return CorruptLog(absl::StrCat("the name '", name, "' is created twice"));
}

absl::Status Replayer::CheckNames(uint64_t parent, absl::string_view name, uint64_t ino) const {
  const auto entry = state_.names.Lookup(base_.lower, parent, name);
  if (entry.has_value() && entry->ino == ino) return absl::OkStatus();
  return CorruptLog(absl::StrCat("the name '", name, "' is not that of inode ", ino));
}

absl::Status Replayer::AddName(uint64_t parent, const std::string& name, uint64_t ino,
                               uint64_t sequence, int64_t time) {
  PBKFS_RETURN_IF_ERROR(CheckAbsent(parent, name));
  state_.names.Add(parent, name, {ino, kCookieAddedBase + sequence});
  return With(parent, [&](InodeState& state) { state.ChildrenChanged(sequence, time); });
}

absl::Status Replayer::RemoveName(uint64_t parent, const std::string& name, uint64_t ino,
                                  uint64_t sequence, int64_t time) {
  PBKFS_RETURN_IF_ERROR(CheckNames(parent, name, ino));
  state_.names.Remove(base_.lower, parent, name);
  return With(parent, [&](InodeState& state) { state.ChildrenChanged(sequence, time); });
}

absl::Status Replayer::Apply(const CreateRecord& record, uint64_t sequence) {
  if (record.ino < kFirstNewIno || record.ino > kMaxCounter || state_.inodes.contains(record.ino)) {
    return CorruptLog(absl::StrCat("inode ", record.ino, " is created twice"));
  }
  PBKFS_RETURN_IF_ERROR(AddName(record.parent, record.name, record.ino, sequence, record.time));
  state_.inodes[record.ino] = std::make_unique<InodeState>(InodeState::OfNew(record, sequence));
  state_.next_ino = std::max(state_.next_ino, record.ino + 1);
  Remember(AnswerTo(record));
  return absl::OkStatus();
}

absl::Status Replayer::Apply(const LinkRecord& record, uint64_t sequence) {
  Remember(AnswerTo(record));
  PBKFS_RETURN_IF_ERROR(AddName(record.parent, record.name, record.ino, sequence, record.time));
  return With(record.ino, [&](InodeState& state) { state.NameAdded(sequence, record.time); });
}

absl::Status Replayer::Apply(const UnlinkRecord& record, uint64_t sequence) {
  Remember(AnswerTo(record));
  PBKFS_RETURN_IF_ERROR(RemoveName(record.parent, record.name, record.ino, sequence, record.time));
  return With(record.ino, [&](InodeState& state) { state.NameRemoved(sequence, record.time); });
}

absl::Status Replayer::Apply(const RenameRecord& record, uint64_t sequence) {
  Remember(AnswerTo(record));
  PBKFS_RETURN_IF_ERROR(RemoveName(record.parent, record.name, record.ino, sequence, record.time));
  if (record.replaced != 0) {
    PBKFS_RETURN_IF_ERROR(
        RemoveName(record.new_parent, record.new_name, record.replaced, sequence, record.time));
    PBKFS_RETURN_IF_ERROR(With(
        record.replaced, [&](InodeState& state) { state.NameRemoved(sequence, record.time); }));
  }
  PBKFS_RETURN_IF_ERROR(
      AddName(record.new_parent, record.new_name, record.ino, sequence, record.time));
  return With(record.ino, [&](InodeState& state) { state.NameChanged(sequence, record.time); });
}

absl::Status Replayer::Apply(const SetAttrRecord& record, uint64_t sequence) {
  return With(record.ino, [&](InodeState& state) { state.Apply(record, sequence); });
}

absl::Status Replayer::Apply(const DataFileRecord& record, uint64_t sequence) {
  return With(record.ino, [&](InodeState& state) { state.layout.Apply(record, sequence); });
}
absl::Status Replayer::Apply(const PresentRecord& record, uint64_t sequence) {
  if (record.first < 0 || record.count < 0 ||
      record.first > kMaxFileBytes / kBlockSize - record.count) {
    return CorruptLog("a Present record names impossible blocks");
  }
  if (!Confirmed(record.ino, sequence)) return absl::OkStatus();
  return ApplyBlocks(record.ino, [&](FileLayout& layout) {
    // Blocks past lower_limit are never looked at, and it never grows.
    PresentRecord tracked = record;
    tracked.count = std::clamp<int64_t>(
        (layout.lower_limit + kBlockSize - 1) / kBlockSize - record.first, 0, record.count);
    layout.Apply(tracked, sequence);
  });
}
absl::Status Replayer::Apply(const SizeRecord& record, uint64_t sequence) {
  if (record.size < 0 || record.size > kMaxFileBytes || record.lower_limit < 0) {
    return CorruptLog("a Size record has an impossible size");
  }
  // The truncation of the data file may not have reached the disk: what it destroyed must not show
  // again where the file grew since, and may be older than anything that the file ever showed.
  if (record.shrinks != 0 && Lost(record.ino) && !Confirmed(record.ino, sequence)) {
    destroyed_[record.ino].push_back({sequence, record.size, kMaxFileBytes});
  }
  return With(record.ino, [&](InodeState& state) {
    state.layout.Apply(record, sequence);
    state.mtime = record.time;
    state.ctime = std::max(state.ctime, record.time);
  });
}
absl::Status Replayer::Apply(const PunchRecord& record, uint64_t sequence) {
  if (record.offset < 0 || record.length < 0 || record.offset > kMaxFileBytes - record.length) {
    return CorruptLog("a Punch record has an impossible range");
  }
  if (!Lost(record.ino) || !Confirmed(record.ino, sequence)) {
    destroyed_[record.ino].push_back({sequence, record.offset, record.offset + record.length});
  }
  return ApplyBlocks(record.ino, [&](FileLayout& layout) { layout.Apply(record, sequence); });
}
absl::Status Replayer::Apply(const CutRecord& record, uint64_t) {
  return With(record.ino, [&](InodeState& state) { state.layout.Apply(record); });
}
absl::Status Replayer::Apply(const SyncedRecord& record, uint64_t) {
  if (record.size < 0 || record.size > kMaxFileBytes || record.data_bytes < 0 ||
      record.data_bytes > record.size) {
    return CorruptLog("a Synced record has an impossible size");
  }
  return With(record.ino, [&](InodeState& state) { state.layout.Apply(record); });
}
absl::Status Replayer::Apply(const FailedRecord& record, uint64_t) {
  return With(record.ino, [&](InodeState& state) { state.layout.failed = true; });
}
absl::Status Replayer::Apply(const ReapRecord& record, uint64_t) {
  const auto found = state_.inodes.find(record.ino);
  if (found == state_.inodes.end() || found->second->nlink != 0) {
    return CorruptLog(absl::StrCat("inode ", record.ino, " is removed but has a name"));
  }
  state_.names.Forget(record.ino);
  state_.inodes.erase(found);
  return absl::OkStatus();
}
absl::Status Replayer::Apply(const CleanUnmountRecord&, uint64_t sequence) {
  for (auto& [ino, state] : state_.inodes) state->layout.synced_through = sequence;
  return absl::OkStatus();
}

absl::Status Replayer::Apply(const CheckpointBeginRecord& record, uint64_t) {
  state_.next_ino = std::max(state_.next_ino, record.next_ino);
  state_.next_sequence = std::max(state_.next_sequence, record.next_sequence);
  return absl::OkStatus();
}
absl::Status Replayer::Apply(const InodeRecord& record, uint64_t) {
  PBKFS_RETURN_IF_ERROR(CheckInode(record));
  state_.inodes[record.ino] = std::make_unique<InodeState>(InodeState::OfCheckpoint(record));
  return absl::OkStatus();
}
absl::Status Replayer::Apply(const PresentRunsRecord& record, uint64_t) {
  if (record.runs.size() % 8 != 0) return CorruptLog("a list of blocks is cut short");
  int64_t block = 0;
  for (size_t at = 0; at < record.runs.size(); at += 8) {
    PresentRecord run;
    run.ino = record.ino;
    run.first = block + LoadLittleEndian<uint32_t>(record.runs.data() + at);
    run.count = LoadLittleEndian<uint32_t>(record.runs.data() + at + 4);
    PBKFS_RETURN_IF_ERROR(Apply(run, 0));
    block = run.first + run.count;
  }
  return absl::OkStatus();
}
absl::Status Replayer::Apply(const DirentRecord& record, uint64_t) {
  if (record.cookie < kCookieAddedBase || record.cookie > kCookieAddedBase + kMaxCounter) {
    return CorruptLog(absl::StrCat("the name '", record.name, "' has an impossible offset"));
  }
  const auto entry = state_.names.Lookup(base_.lower, record.parent, record.name);
  // A name of the image that was replaced is hidden by a Whiteout, which may follow.
  if (entry.has_value() && entry->cookie >= kCookieAddedBase)
    return CheckAbsent(record.parent, record.name);
  state_.names.Add(record.parent, record.name, {record.ino, record.cookie});
  return absl::OkStatus();
}
absl::Status Replayer::Apply(const AnswerRecord& record, uint64_t) {
  Remember(record);
  return absl::OkStatus();
}
absl::Status Replayer::Apply(const WhiteoutRecord& record, uint64_t) {
  state_.names.Hide(record.parent, record.name);
  return absl::OkStatus();
}

}  // namespace pbkfs
