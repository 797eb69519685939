#include "fs/diff/checkpoint.h"

#include <fcntl.h>

#include <limits>
#include <string>
#include <utility>

#include "fs/base/bytes.h"
#include "fs/base/status.h"
#include "fs/diff/diff_directory.h"
#include "fs/diff/page_cache_evidence.h"

namespace pbkfs {
namespace {

constexpr size_t kMaxRunBytes = 8 << 10;
constexpr size_t kFlushBytes = 1 << 20;

}  // namespace

CheckpointWriter::CheckpointWriter(IoFile& file, uint64_t generation)
    : file_(file), seed_(RandomNonce()), generation_(generation) {}

absl::Status CheckpointWriter::Raw(const std::string& bytes) {
  buffer_ += bytes;
  return buffer_.size() < kFlushBytes ? absl::OkStatus() : Flush();
}

absl::Status CheckpointWriter::State(const Record& record) {
  ++state_records_;
  return Raw(EncodeRecord(record, 0, 0, seed_));
}

absl::Status CheckpointWriter::Carry(const Record& record, uint64_t sequence) {
  std::string bytes = EncodeRecord(record, sequence, 0, seed_);
  // The file is synced before it gets its name: each record may vouch for all before its own end.
  const auto durable_to = static_cast<uint64_t>(end()) + bytes.size();
  return Raw(EncodeRecord(record, sequence, durable_to, seed_));
}

absl::Status CheckpointWriter::Flush() {
  PBKFS_RETURN_IF_ERROR(
      file_.Write(end_, {reinterpret_cast<const uint8_t*>(buffer_.data()), buffer_.size()}));
  end_ += static_cast<int64_t>(buffer_.size());
  buffer_.clear();
  return absl::OkStatus();
}

// The blocks of one inode, as many runs a record as fit.
absl::Status CheckpointWriter::WritePresent(const InodeState& state) {
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  const BlockSet& present = state.layout.present;
  PresentRunsRecord record;
  record.ino = state.ino;
  int64_t previous_end = 0;
  for (auto run = present.NextRun(0, kAll); run.second > 0;
       run = present.NextRun(run.first + run.second, kAll)) {
    char pair[8];
    StoreLittleEndian(static_cast<uint32_t>(run.first - previous_end), pair);
    StoreLittleEndian(static_cast<uint32_t>(run.second), pair + 4);
    record.runs.append(pair, sizeof(pair));
    previous_end = run.first + run.second;
    if (record.runs.size() < kMaxRunBytes) continue;
    PBKFS_RETURN_IF_ERROR(State(record));
    record.runs.clear();
    previous_end = 0;
  }
  return record.runs.empty() ? absl::OkStatus() : State(record);
}

absl::Status CheckpointWriter::WriteNames(const DirectoryTable& names) {
  absl::Status status;
  names.VisitHidden([&](uint64_t parent, absl::string_view name) {
    if (status.ok()) status = State(WhiteoutRecord{parent, std::string(name)});
  });
  names.VisitAdded(
      [&](uint64_t parent, absl::string_view name, const DirectoryTable::Entry& entry) {
        if (status.ok()) {
          status = State(DirentRecord{parent, std::string(name), entry.ino, entry.cookie});
        }
      });
  return status;
}

absl::Status CheckpointWriter::WriteState(const DiffState& state, OpenRecord open,
                                          uint64_t open_sequence, bool online) {
  PBKFS_RETURN_IF_ERROR(Raw(EncodeLogHeader({seed_, generation_})));
  CheckpointBeginRecord begin;
  begin.next_ino = state.next_ino;
  begin.next_sequence = state.next_sequence;
  begin.session_nonce = open.session_nonce;
  begin.evidence = open.evidence;
  PBKFS_RETURN_IF_ERROR(Raw(EncodeRecord(begin, 0, 0, seed_)));
  for (const auto& [ino, inode] : state.inodes) {
    if (inode->nlink == 0 && !online) continue;
    const uint64_t confirmed = online ? inode->layout.synced_through : state.next_sequence - 1;
    PBKFS_RETURN_IF_ERROR(State(inode->ToCheckpoint(confirmed)));
    PBKFS_RETURN_IF_ERROR(WritePresent(*inode));
  }
  PBKFS_RETURN_IF_ERROR(WriteNames(state.names));
  for (const AnswerRecord& answer : state.answers) PBKFS_RETURN_IF_ERROR(State(answer));
  const CheckpointEndRecord end{state_records_};
  PBKFS_RETURN_IF_ERROR(Raw(EncodeRecord(end, 0, 0, seed_)));
  open.next_seed = seed_;
  return Carry(open, open_sequence);
}

absl::StatusOr<NewLog> ReplaceLogByCheckpoint(IoDir& directory, const DiffState& state,
                                              const OpenRecord& open, uint64_t generation) {
  NewLog log;
  PBKFS_ASSIGN_OR_RETURN(log.file,
                         directory.OpenFile(kNewLogName, O_RDWR | O_CREAT | O_TRUNC, 0600));
  CheckpointWriter writer(*log.file, generation);
  PBKFS_RETURN_IF_ERROR(writer.WriteState(state, open, state.next_sequence, /*online=*/false));
  PBKFS_RETURN_IF_ERROR(writer.Flush());
  PBKFS_RETURN_IF_ERROR(log.file->DataSync());
  PBKFS_RETURN_IF_ERROR(directory.Rename(kNewLogName, directory, kLogName));
  PBKFS_RETURN_IF_ERROR(directory.Sync());
  log.position.seed = writer.seed();
  log.position.next_sequence = state.next_sequence + 1;
  log.position.end = writer.end();
  log.position.durable_to = writer.end();
  return log;
}

}  // namespace pbkfs
