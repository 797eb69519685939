#include "fs/diff/log_reader.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/diff/limits.h"

namespace pbkfs {
namespace {

// Looks for valid records past damage: they tell that the damage is not the end of the log.
void ScanPastDamage(absl::Span<const uint8_t> bytes, ParsedLog* log) {
  for (size_t at = static_cast<size_t>(log->end) + 8; at + kLogRecordHeaderBytes <= bytes.size();
       at += 8) {
    const auto record = DecodeRecord(bytes.subspan(at), log->seed);
    if (!record.ok()) continue;
    log->late_record = true;
    log->durable_to = std::max(log->durable_to, static_cast<int64_t>(record->durable_to));
  }
}

}  // namespace

absl::Status CorruptLog(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kDiffCorrupt,
                     absl::StrCat("the diff's log is damaged: ", what,
                                  "; keep a copy of the diff directory and mount with a new one"));
}

absl::StatusOr<std::vector<uint8_t>> ReadLog(IoFile& file) {
  PBKFS_ASSIGN_OR_RETURN(const struct stat attributes, file.Stat());
  return ReadLog(file, 0, attributes.st_size);
}

absl::StatusOr<std::vector<uint8_t>> ReadLog(IoFile& file, int64_t begin, int64_t end) {
  if (end > kMaxLogBytes) return CorruptLog("it is impossibly long");
  std::vector<uint8_t> bytes(static_cast<size_t>(end - begin));
  PBKFS_ASSIGN_OR_RETURN(const size_t count, file.Read(begin, absl::MakeSpan(bytes)));
  bytes.resize(count);
  return bytes;
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

absl::Status CheckCheckpoint(const ParsedLog& log) {
  if (log.records.empty() ||
      !std::holds_alternative<CheckpointBeginRecord>(log.records.front().record)) {
    return CorruptLog("it does not begin with a checkpoint");
  }
  for (size_t i = 1; i < log.records.size(); ++i) {
    const auto* end = std::get_if<CheckpointEndRecord>(&log.records[i].record);
    if (end == nullptr) continue;
    if (end->state_records != i - 1) return CorruptLog("its checkpoint lacks records");
    if (i + 1 == log.records.size() ||
        !std::holds_alternative<OpenRecord>(log.records[i + 1].record)) {
      return CorruptLog("the first record after its checkpoint is unreadable");
    }
    return absl::OkStatus();
  }
  return CorruptLog("its checkpoint is cut short");
}

bool EndsClean(const ParsedLog& log) {
  return !log.damaged_tail && !log.records.empty() &&
         std::holds_alternative<CleanUnmountRecord>(log.records.back().record);
}

absl::Status CheckTail(const ParsedLog& log, int64_t bytes, bool intact) {
  if (log.durable_to > log.end) return CorruptLog("records that were confirmed are unreadable");
  if (intact && log.damaged_tail &&
      (log.late_record || bytes - log.end > static_cast<int64_t>(kMaxRecordBytes))) {
    return CorruptLog("more than the last record is unreadable");
  }
  return absl::OkStatus();
}

PageCacheEvidence LastEvidence(const ParsedLog& log) {
  PageCacheEvidence evidence;
  for (const DecodedRecord& record : log.records) {
    if (const auto* open = std::get_if<OpenRecord>(&record.record)) evidence = open->evidence;
  }
  return evidence;
}

absl::Status ParseRecords(absl::Span<const uint8_t> bytes, uint64_t seed,
                          std::vector<DecodedRecord>* records) {
  while (!bytes.empty()) {
    auto record = DecodeRecord(bytes, seed);
    if (!record.ok()) return CorruptLog("a record that was appended can't be read back");
    bytes.remove_prefix(record->bytes);
    records->push_back(*std::move(record));
  }
  return absl::OkStatus();
}

}  // namespace pbkfs
