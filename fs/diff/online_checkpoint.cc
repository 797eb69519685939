#include "fs/diff/online_checkpoint.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>
#include <variant>
#include <vector>

#include "fs/base/status.h"
#include "fs/diff/diff_directory.h"
#include "fs/diff/limits.h"

namespace pbkfs {
namespace {

constexpr uint64_t kEverything = std::numeric_limits<uint64_t>::max();

// The last sequence of an inode's records that no loss of the page cache can take back any more.
uint64_t CutoffOf(const InodeProof& proof, uint64_t all_confirmed) {
  // Without a data file the records are all that there is; of a reaped inode nothing is left.
  if (!proof.has_data || proof.reaped) return kEverything;
  uint64_t confirmed = std::max(proof.confirmed, all_confirmed);
  if (proof.data_file != 0) confirmed = std::max(confirmed, proof.data_file - 1);
  if (proof.uncut != 0) return std::min(confirmed, proof.uncut - 1);
  return proof.last_layout <= confirmed && !proof.failed ? kEverything : confirmed;
}

// Decides for each record of an old log which layer it goes to.
class Layering {
 public:
  explicit Layering(const LogProof& proof) : proof_(proof) {}

  // Whether the record is left to the second layer.
  bool Carried(const DecodedRecord& record) const {
    return std::visit([&](const auto& value) { return Carries(value, record.sequence); },
                      record.record);
  }

 private:
  uint64_t Cutoff(uint64_t ino) const {
    const auto found = proof_.inodes.find(ino);
    return found == proof_.inodes.end() ? kEverything
                                        : CutoffOf(found->second, proof_.all_confirmed);
  }
  bool Carries(const SetAttrRecord& record, uint64_t sequence) const {
    return sequence > Cutoff(record.ino);
  }
  bool Carries(const DataFileRecord& record, uint64_t sequence) const {
    return sequence > Cutoff(record.ino);
  }
  bool Carries(const PresentRecord& record, uint64_t sequence) const {
    return sequence > Cutoff(record.ino);
  }
  bool Carries(const SizeRecord& record, uint64_t sequence) const {
    return sequence > Cutoff(record.ino);
  }
  bool Carries(const PunchRecord& record, uint64_t sequence) const {
    return sequence > Cutoff(record.ino);
  }
  bool Carries(const CutRecord& record, uint64_t) const {
    return record.sequence > Cutoff(record.ino);
  }
  bool Carries(const SyncedRecord& record, uint64_t) const {
    return record.through > Cutoff(record.ino);
  }
  bool Carries(const FailedRecord& record, uint64_t) const {
    return Cutoff(record.ino) != kEverything;
  }
  // Names, and what frames a log.
  template <typename OtherRecord>
  bool Carries(const OtherRecord&, uint64_t) const {
    return false;
  }

  const LogProof& proof_;
};

}  // namespace

absl::Status OnlineCheckpoint::Begin(int64_t end, std::vector<AnswerRecord> unanswered) {
  ParsedLog log;
  {
    PBKFS_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, ReadLog(*old_log_, 0, end));
    PBKFS_ASSIGN_OR_RETURN(log, ParseLog(bytes));
  }
  if (log.end != end) return CorruptLog("a record that was appended can't be read back");
  PBKFS_RETURN_IF_ERROR(CheckCheckpoint(log));
  old_seed_ = log.seed;
  PBKFS_ASSIGN_OR_RETURN(new_log_,
                         directory_.OpenFile(kNewLogName, O_RDWR | O_CREAT | O_TRUNC, 0600));
  writer_.emplace(*new_log_, log.header.generation + 1);
  PBKFS_RETURN_IF_ERROR(WriteLayers(log, std::move(unanswered)));
  taken_ = end;
  state_bytes_ = writer_->end();
  PBKFS_RETURN_IF_ERROR(writer_->Flush());
  return new_log_->DataSync();
}

absl::Status OnlineCheckpoint::WriteLayers(const ParsedLog& log,
                                           std::vector<AnswerRecord> unanswered) {
  const LogProof proof = CollectProof(log.records);
  const Layering layering(proof);
  Replayer replayer(base_, proof, ShutdownKind::kClean);
  PBKFS_RETURN_IF_ERROR(replayer.Run(
      log.records, [&](const DecodedRecord& record) { return !layering.Carried(record); }));
  replayer.state().answers = std::move(unanswered);
  // The Open of this session, under the sequence of the file's first: nothing that is carried over
  // is older than that one, since a file begins with a state in which everything is confirmed.
  const OpenRecord* open = nullptr;
  uint64_t open_sequence = 0;
  for (const DecodedRecord& record : log.records) {
    if (!std::holds_alternative<OpenRecord>(record.record)) continue;
    open = &std::get<OpenRecord>(record.record);
    if (open_sequence == 0) open_sequence = record.sequence;
  }
  PBKFS_RETURN_IF_ERROR(
      writer_->WriteState(replayer.state(), *open, open_sequence, /*online=*/true));
  for (const DecodedRecord& record : log.records) {
    if (record.sequence == 0 || !layering.Carried(record)) continue;
    PBKFS_RETURN_IF_ERROR(writer_->Carry(record.record, record.sequence));
  }
  return absl::OkStatus();
}

absl::Status OnlineCheckpoint::CarryOver(int64_t end) {
  if (end == taken_) return absl::OkStatus();
  PBKFS_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, ReadLog(*old_log_, taken_, end));
  std::vector<DecodedRecord> records;
  PBKFS_RETURN_IF_ERROR(ParseRecords(bytes, old_seed_, &records));
  for (const DecodedRecord& record : records) {
    PBKFS_RETURN_IF_ERROR(writer_->Carry(record.record, record.sequence));
  }
  taken_ = end;
  PBKFS_RETURN_IF_ERROR(writer_->Flush());
  return new_log_->DataSync();
}

absl::StatusOr<NewLog> OnlineCheckpoint::Finish(int64_t end, bool* renamed) {
  *renamed = false;
  NewLog log;
  log.file = new_log_;
  log.reserved_end = writer_->end() + (end - taken_);
  // Without its reserve the new log would be worse than the old one. The blocks are allocated
  // before the last sync, so that it makes them durable too.
  const absl::Status reserved =
      new_log_->Allocate(FALLOC_FL_KEEP_SIZE, writer_->end(), end - taken_ + kLogReserveBytes);
  if (reserved.ok()) {
    log.reserved_end += kLogReserveBytes;
  } else if (ErrnoOf(reserved) != EOPNOTSUPP) {
    return reserved;
  }
  PBKFS_RETURN_IF_ERROR(CarryOver(end));
  PBKFS_RETURN_IF_ERROR(directory_.Rename(kNewLogName, directory_, kLogName));
  *renamed = true;
  PBKFS_RETURN_IF_ERROR(directory_.Sync());
  log.position.end = writer_->end();
  log.position.seed = writer_->seed();
  log.position.durable_to = writer_->end();
  return log;
}

void OnlineCheckpoint::Abandon() { directory_.Remove(kNewLogName).IgnoreError(); }

}  // namespace pbkfs
