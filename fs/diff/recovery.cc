#include "fs/diff/recovery.h"

#include <fcntl.h>

#include <algorithm>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fs/base/bytes.h"
#include "fs/base/status.h"
#include "fs/diff/page_cache_evidence.h"
#include "fs/diff/zero_range.h"

namespace pbkfs {
namespace {

absl::Status Corrupt(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kDiffCorrupt,
                     absl::StrCat("the diff's log is damaged: ", what,
                                  "; keep a copy of the diff directory and mount with a new one"));
}

// The valid records of a log, and how it ends.
struct ParsedLog {
  LogHeader header;
  std::vector<DecodedRecord> records;
  uint64_t seed = 0;          // Of the last epoch.
  int64_t end = 0;            // After the last valid record.
  int64_t durable_to = 0;     // The highest that a valid record tells.
  bool damaged_tail = false;  // Something that is not a record follows.
  bool late_record = false;   // A valid record follows the damage.
};

absl::StatusOr<std::vector<uint8_t>> ReadWhole(IoFile& log) {
  PBKFS_ASSIGN_OR_RETURN(const struct stat attributes, log.Stat());
  if (attributes.st_size > kMaxLogBytes) return Corrupt("it is impossibly long");
  std::vector<uint8_t> bytes(static_cast<size_t>(attributes.st_size));
  PBKFS_ASSIGN_OR_RETURN(const size_t count, log.Read(0, absl::MakeSpan(bytes)));
  bytes.resize(count);
  return bytes;
}

// Looks for valid records past damage: they tell that the damage is not the end of the log.
void ScanPastDamage(absl::Span<const uint8_t> bytes, ParsedLog* log) {
  for (size_t at = static_cast<size_t>(log->end) + 8; at + kRecordHeaderBytes <= bytes.size();
       at += 8) {
    const auto record = DecodeRecord(bytes.subspan(at), log->seed);
    if (!record.ok()) continue;
    log->late_record = true;
    log->durable_to = std::max(log->durable_to, static_cast<int64_t>(record->durable_to));
  }
}

absl::StatusOr<ParsedLog> ParseLog(absl::Span<const uint8_t> bytes) {
  ParsedLog log;
  auto header = DecodeLogHeader(bytes);
  if (!header.ok()) return WithReason(header.status(), reason::kDiffCorrupt);
  log.header = *header;
  log.seed = log.header.seed;
  log.end = kLogHeaderBytes;
  while (true) {
    auto record = DecodeRecord(bytes.subspan(static_cast<size_t>(log.end)), log.seed);
    if (!record.ok()) {
      const auto rest = bytes.subspan(static_cast<size_t>(log.end));
      log.damaged_tail =
          std::any_of(rest.begin(), rest.end(), [](uint8_t byte) { return byte != 0; });
      break;
    }
    log.end += static_cast<int64_t>(record->bytes);
    log.durable_to = std::max(log.durable_to, static_cast<int64_t>(record->durable_to));
    if (const auto* open = std::get_if<OpenRecord>(&record->record)) log.seed = open->next_seed;
    log.records.push_back(*std::move(record));
  }
  if (log.damaged_tail) ScanPastDamage(bytes, &log);
  return log;
}

// A checkpoint is durable before its file gets its name, so that nothing of it may be missing.
absl::Status CheckCheckpoint(const ParsedLog& log) {
  if (log.records.empty() ||
      !std::holds_alternative<CheckpointBeginRecord>(log.records.front().record)) {
    return Corrupt("it does not begin with a checkpoint");
  }
  for (size_t i = 1; i < log.records.size(); ++i) {
    const auto* end = std::get_if<CheckpointEndRecord>(&log.records[i].record);
    if (end == nullptr) continue;
    if (end->state_records != i - 1) return Corrupt("its checkpoint lacks records");
    if (i + 1 == log.records.size() ||
        !std::holds_alternative<OpenRecord>(log.records[i + 1].record)) {
      return Corrupt("the first record after its checkpoint is unreadable");
    }
    return absl::OkStatus();
  }
  return Corrupt("its checkpoint is cut short");
}

using PunchList = std::vector<std::pair<uint64_t, PunchRecord>>;

class Replayer {
 public:
  Replayer(const RecoverySource& source, ShutdownKind shutdown)
      : source_(source), cache_lost_(shutdown == ShutdownKind::kCacheLost) {}

  absl::Status Run(const std::vector<DecodedRecord>& records) {
    CollectConfirmed(records);
    bool in_checkpoint = true;
    for (const DecodedRecord& record : records) {
      if (std::holds_alternative<CheckpointEndRecord>(record.record)) in_checkpoint = false;
      if (record.sequence != 0) {
        if (in_checkpoint || record.sequence < state_.next_sequence) {
          return Corrupt(absl::StrCat("sequence ", record.sequence, " is out of order"));
        }
        state_.next_sequence = record.sequence + 1;
      }
      PBKFS_RETURN_IF_ERROR(std::visit(
          [&](const auto& value) { return Apply(value, record.sequence); }, record.record));
    }
    return absl::OkStatus();
  }

  DiffState& state() { return state_; }
  PageCacheEvidence evidence() const { return evidence_; }
  // Whether only what was synced may be believed of an inode: after a loss, and where a sync
  // failed, since the kernel may have thrown away the pages that it could not write.
  bool Lost(uint64_t ino) const { return cache_lost_ || failed_.contains(ino); }
  // Punches that may not have reached their data file, with their sequences.
  const PunchList& punches() const { return punches_; }

 private:
  // For each inode, the last sequence that a surviving Synced covers.
  void CollectConfirmed(const std::vector<DecodedRecord>& records) {
    for (const DecodedRecord& record : records) {
      uint64_t ino = 0;
      uint64_t through = 0;
      if (const auto* synced = std::get_if<SyncedRecord>(&record.record)) {
        ino = synced->ino;
        through = synced->through;
      } else if (const auto* inode = std::get_if<InodeRecord>(&record.record)) {
        ino = inode->ino;
        through = inode->synced_through;
      } else if (const auto* failed = std::get_if<FailedRecord>(&record.record)) {
        failed_.insert(failed->ino);
        continue;
      } else if (std::holds_alternative<CleanUnmountRecord>(record.record)) {
        all_confirmed_ = record.sequence;
        continue;
      } else {
        continue;
      }
      uint64_t& confirmed = confirmed_[ino];
      confirmed = std::max(confirmed, through);
    }
  }

  bool Confirmed(uint64_t ino, uint64_t sequence) const {
    if (!Lost(ino) || sequence <= all_confirmed_) return true;
    const auto found = confirmed_.find(ino);
    return found != confirmed_.end() && sequence <= found->second;
  }

  // The state of an inode, made from the image where the diff did not know it yet; null where there
  // is no such inode.
  InodeState* Touch(uint64_t ino) {
    auto& slot = state_.inodes[ino];
    if (slot == nullptr) {
      const auto node = ino < kFirstNewIno ? source_.lower.Node(ino) : std::nullopt;
      if (!node.has_value()) {
        state_.inodes.erase(ino);
        return nullptr;
      }
      slot = std::make_unique<InodeState>(
          InodeState::OfLower(source_.lower, *node, source_.owner_uid, source_.owner_gid));
    }
    return slot.get();
  }

  // Runs `apply` on the state of `ino`, or fails.
  template <typename Function>
  absl::Status With(uint64_t ino, Function apply) {
    InodeState* state = Touch(ino);
    if (state == nullptr) return Corrupt(absl::StrCat("a record names the unknown inode ", ino));
    apply(*state);
    return absl::OkStatus();
  }

  absl::Status CheckAbsent(uint64_t parent, absl::string_view name) const {
    if (!state_.names.Lookup(source_.lower, parent, name).has_value()) return absl::OkStatus();
    return Corrupt(absl::StrCat("the name '", name, "' is created twice"));
  }

  absl::Status CheckNames(uint64_t parent, absl::string_view name, uint64_t ino) const {
    const auto entry = state_.names.Lookup(source_.lower, parent, name);
    if (entry.has_value() && entry->ino == ino) return absl::OkStatus();
    return Corrupt(absl::StrCat("the name '", name, "' is not that of inode ", ino));
  }

  absl::Status AddName(uint64_t parent, const std::string& name, uint64_t ino, uint64_t sequence,
                       int64_t time) {
    PBKFS_RETURN_IF_ERROR(CheckAbsent(parent, name));
    state_.names.Add(parent, name, {ino, kCookieAddedBase + sequence});
    return With(parent, [&](InodeState& state) { state.ChildrenChanged(sequence, time); });
  }

  absl::Status RemoveName(uint64_t parent, const std::string& name, uint64_t ino, uint64_t sequence,
                          int64_t time) {
    PBKFS_RETURN_IF_ERROR(CheckNames(parent, name, ino));
    state_.names.Remove(source_.lower, parent, name);
    return With(parent, [&](InodeState& state) { state.ChildrenChanged(sequence, time); });
  }

  absl::Status Apply(const OpenRecord& record, uint64_t) {
    evidence_ = record.evidence;
    return absl::OkStatus();
  }

  absl::Status Apply(const CreateRecord& record, uint64_t sequence) {
    if (record.ino < kFirstNewIno || state_.inodes.contains(record.ino)) {
      return Corrupt(absl::StrCat("inode ", record.ino, " is created twice"));
    }
    PBKFS_RETURN_IF_ERROR(AddName(record.parent, record.name, record.ino, sequence, record.time));
    state_.inodes[record.ino] = std::make_unique<InodeState>(InodeState::OfNew(record, sequence));
    state_.next_ino = std::max(state_.next_ino, record.ino + 1);
    return absl::OkStatus();
  }

  absl::Status Apply(const LinkRecord& record, uint64_t sequence) {
    PBKFS_RETURN_IF_ERROR(AddName(record.parent, record.name, record.ino, sequence, record.time));
    return With(record.ino, [&](InodeState& state) { state.NameAdded(sequence, record.time); });
  }

  absl::Status Apply(const UnlinkRecord& record, uint64_t sequence) {
    PBKFS_RETURN_IF_ERROR(
        RemoveName(record.parent, record.name, record.ino, sequence, record.time));
    return With(record.ino, [&](InodeState& state) { state.NameRemoved(sequence, record.time); });
  }

  absl::Status Apply(const RenameRecord& record, uint64_t sequence) {
    PBKFS_RETURN_IF_ERROR(
        RemoveName(record.parent, record.name, record.ino, sequence, record.time));
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

  absl::Status Apply(const SetAttrRecord& record, uint64_t sequence) {
    return With(record.ino, [&](InodeState& state) { state.Apply(record, sequence); });
  }

  // A layout record of an inode, applied as it stands.
  template <typename LayoutRecord>
  absl::Status ApplyLayout(const LayoutRecord& record, uint64_t sequence) {
    return With(record.ino, [&](InodeState& state) { state.layout.Apply(record, sequence); });
  }
  absl::Status Apply(const DataFileRecord& record, uint64_t sequence) {
    return ApplyLayout(record, sequence);
  }
  absl::Status Apply(const PresentRecord& record, uint64_t sequence) {
    if (record.first < 0 || record.count < 0 ||
        record.first > kMaxFileBytes / kBlockSize - record.count) {
      return Corrupt("a Present record names impossible blocks");
    }
    if (!Confirmed(record.ino, sequence)) return absl::OkStatus();
    return ApplyLayout(record, sequence);
  }
  absl::Status Apply(const SizeRecord& record, uint64_t sequence) {
    if (record.size < 0 || record.size > kMaxFileBytes || record.lower_limit < 0) {
      return Corrupt("a Size record has an impossible size");
    }
    PBKFS_RETURN_IF_ERROR(ApplyLayout(record, sequence));
    return With(record.ino, [&](InodeState& state) {
      state.mtime = record.time;
      state.ctime = record.time;
    });
  }
  absl::Status Apply(const PunchRecord& record, uint64_t sequence) {
    if (record.offset < 0 || record.length < 0 || record.offset > kMaxFileBytes - record.length) {
      return Corrupt("a Punch record has an impossible range");
    }
    if (!Lost(record.ino) || !Confirmed(record.ino, sequence))
      punches_.emplace_back(sequence, record);
    return ApplyLayout(record, sequence);
  }
  absl::Status Apply(const CutRecord& record, uint64_t) {
    return With(record.ino, [&](InodeState& state) { state.layout.Apply(record); });
  }
  absl::Status Apply(const SyncedRecord& record, uint64_t) {
    return With(record.ino, [&](InodeState& state) { state.layout.Apply(record); });
  }
  absl::Status Apply(const FailedRecord& record, uint64_t) {
    return With(record.ino, [&](InodeState& state) { state.layout.failed = true; });
  }
  absl::Status Apply(const ReapRecord& record, uint64_t) {
    const auto found = state_.inodes.find(record.ino);
    if (found == state_.inodes.end() || found->second->nlink != 0) {
      return Corrupt(absl::StrCat("inode ", record.ino, " is removed but has a name"));
    }
    state_.names.Forget(record.ino);
    state_.inodes.erase(found);
    return absl::OkStatus();
  }
  absl::Status Apply(const CleanUnmountRecord&, uint64_t sequence) {
    for (auto& [ino, state] : state_.inodes) state->layout.synced_through = sequence;
    return absl::OkStatus();
  }

  absl::Status Apply(const CheckpointBeginRecord& record, uint64_t) {
    state_.next_ino = std::max(state_.next_ino, record.next_ino);
    state_.next_sequence = std::max(state_.next_sequence, record.next_sequence);
    evidence_ = record.evidence;
    return absl::OkStatus();
  }
  absl::Status Apply(const InodeRecord& record, uint64_t) {
    state_.inodes[record.ino] = std::make_unique<InodeState>(InodeState::OfCheckpoint(record));
    return absl::OkStatus();
  }
  absl::Status Apply(const PresentRunsRecord& record, uint64_t) {
    if (record.runs.size() % 8 != 0) return Corrupt("a list of blocks is cut short");
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
  absl::Status Apply(const DirentRecord& record, uint64_t) {
    const auto entry = state_.names.Lookup(source_.lower, record.parent, record.name);
    // A name of the image that was replaced is hidden by a Whiteout, which may follow.
    if (entry.has_value() && entry->ino >= kFirstNewIno)
      return CheckAbsent(record.parent, record.name);
    state_.names.Add(record.parent, record.name, {record.ino, record.cookie});
    return absl::OkStatus();
  }
  absl::Status Apply(const WhiteoutRecord& record, uint64_t) {
    state_.names.Hide(record.parent, record.name);
    return absl::OkStatus();
  }
  absl::Status Apply(const AnswerRecord&, uint64_t) { return absl::OkStatus(); }
  absl::Status Apply(const CheckpointEndRecord&, uint64_t) { return absl::OkStatus(); }

  const RecoverySource& source_;
  const bool cache_lost_;
  DiffState state_;
  PageCacheEvidence evidence_;
  absl::flat_hash_map<uint64_t, uint64_t> confirmed_;
  absl::flat_hash_set<uint64_t> failed_;
  uint64_t all_confirmed_ = 0;  // Sequence of the last clean unmount.
  PunchList punches_;
};

// Brings the data file of one inode into agreement with its state, and the state's size with the
// file.
class DataFileSettler {
 public:
  explicit DataFileSettler(IoDir& data) : data_(data) {}

  // Whether anything was changed that the log does not say.
  bool settled() const { return settled_; }

  // `lost` as Replayer::Lost.
  absl::Status Settle(InodeState& state, const PunchList& punches, bool lost) {
    FileLayout& layout = state.layout;
    if (!layout.has_data) return absl::OkStatus();
    auto file = data_.OpenFile(DataFileName(state.ino), O_RDWR, 0);
    if (!file.ok() && ErrnoOf(file.status()) == ENOENT) return SettleMissing(state, lost);
    if (!file.ok()) return file.status();
    PBKFS_ASSIGN_OR_RETURN(const struct stat attributes, (*file)->Stat());
    bool changed = false;
    for (const auto& [sequence, punch] : punches) {
      if (punch.ino != state.ino || (!lost && sequence != layout.uncut)) continue;
      PBKFS_RETURN_IF_ERROR(ZeroRange(**file, punch.offset, punch.length));
      changed = true;
    }
    // Bytes past the logged size were written by extensions, which have no record. They are no such
    // bytes where a shrink was not finished, and, after a loss, where an explicit size is newer
    // than what was synced.
    const bool cut_pending = layout.uncut != 0 && layout.uncut == layout.last_size;
    const bool believed = !cut_pending && (!lost || layout.last_size <= layout.synced_through);
    if (attributes.st_size > layout.size) {
      if (believed) {
        layout.size = attributes.st_size;
        changed = lost || changed;
      } else {
        PBKFS_RETURN_IF_ERROR((*file)->Truncate(layout.size));
        changed = true;
      }
    }
    state.mtime = std::max(
        state.mtime, attributes.st_mtim.tv_sec * int64_t{1000000000} + attributes.st_mtim.tv_nsec);
    state.ctime = std::max(state.ctime, state.mtime);
    settled_ = settled_ || layout.uncut != 0 || layout.failed;
    layout.uncut = 0;
    layout.failed = false;
    settled_ = settled_ || changed;
    // After a loss also where nothing had to be done: a recovery that was cut short may have done
    // it, and not synced it.
    return changed || lost ? (*file)->DataSync() : absl::OkStatus();
  }

 private:
  // The record of a data file may survive the file's directory entry, but not once the file was
  // synced.
  absl::Status SettleMissing(InodeState& state, bool lost) {
    FileLayout& layout = state.layout;
    if (!lost || layout.synced_through >= layout.last_layout) {
      return Corrupt(absl::StrCat("data file ", DataFileName(state.ino), " is missing"));
    }
    layout.has_data = false;
    layout.uncut = 0;
    layout.failed = false;
    settled_ = true;
    return absl::OkStatus();
  }

  IoDir& data_;
  bool settled_ = false;
};

}  // namespace

std::string DataFileName(uint64_t ino) { return absl::StrFormat("%x", ino); }

absl::StatusOr<Recovered> RecoverLog(const RecoverySource& source, IoFile& log_file) {
  PBKFS_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, ReadWhole(log_file));
  PBKFS_ASSIGN_OR_RETURN(const ParsedLog log, ParseLog(bytes));
  PBKFS_RETURN_IF_ERROR(CheckCheckpoint(log));

  Recovered recovered;
  recovered.generation = log.header.generation;
  for (const DecodedRecord& record : log.records) {
    if (const auto* open = std::get_if<OpenRecord>(&record.record)) {
      recovered.evidence = open->evidence;
    }
  }
  const bool clean =
      std::holds_alternative<CleanUnmountRecord>(log.records.back().record) && !log.damaged_tail;
  const bool intact = clean || EvidenceHolds(source.io, source.directory, recovered.evidence);
  recovered.shutdown = clean    ? ShutdownKind::kClean
                       : intact ? ShutdownKind::kProcessDied
                                : ShutdownKind::kCacheLost;
  if (log.durable_to > log.end) return Corrupt("records that were confirmed are unreadable");
  if (intact && log.damaged_tail &&
      (log.late_record || bytes.size() - static_cast<size_t>(log.end) > kMaxRecordBytes)) {
    return Corrupt("more than the last record is unreadable");
  }
  Replayer replayer(source, recovered.shutdown);
  PBKFS_RETURN_IF_ERROR(replayer.Run(log.records));
  DataFileSettler settler(source.data);
  for (auto& [ino, state] : replayer.state().inodes) {
    PBKFS_RETURN_IF_ERROR(settler.Settle(*state, replayer.punches(), replayer.Lost(ino)));
    if (state->nlink == 0) recovered.orphans.push_back(ino);
  }
  // Not before everything else went well: the tail may be the only evidence of what happened.
  if (static_cast<int64_t>(bytes.size()) > log.end) {
    PBKFS_RETURN_IF_ERROR(log_file.Truncate(log.end));
  }
  recovered.needs_checkpoint = recovered.shutdown == ShutdownKind::kCacheLost || settler.settled();
  recovered.state = std::move(replayer.state());
  recovered.position.end = log.end;
  recovered.position.seed = log.seed;
  recovered.position.next_sequence = recovered.state.next_sequence;
  recovered.position.durable_to = clean ? log.end : log.durable_to;
  return recovered;
}

}  // namespace pbkfs
