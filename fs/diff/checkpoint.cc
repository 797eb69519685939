#include "fs/diff/checkpoint.h"

#include <fcntl.h>

#include <limits>
#include <string>
#include <utility>

#include "fs/base/bytes.h"
#include "fs/base/status.h"
#include "fs/diff/page_cache_evidence.h"

namespace pbkfs {
namespace {

constexpr size_t kMaxRunBytes = 8 << 10;

// Buffers records and writes them in large pieces.
class CheckpointWriter {
 public:
  CheckpointWriter(IoFile& file, uint64_t seed) : file_(file), seed_(seed) {}

  absl::Status Raw(const std::string& bytes) {
    buffer_ += bytes;
    return buffer_.size() < kFlushBytes ? absl::OkStatus() : Flush();
  }
  absl::Status State(const Record& record) {
    ++state_records_;
    return Raw(EncodeRecord(record, 0, 0, seed_));
  }
  absl::Status Flush() {
    PBKFS_RETURN_IF_ERROR(
        file_.Write(end_, {reinterpret_cast<const uint8_t*>(buffer_.data()), buffer_.size()}));
    end_ += static_cast<int64_t>(buffer_.size());
    buffer_.clear();
    return absl::OkStatus();
  }
  int64_t end() const { return end_; }
  uint64_t state_records() const { return state_records_; }

 private:
  static constexpr size_t kFlushBytes = 1 << 20;
  IoFile& file_;
  const uint64_t seed_;
  std::string buffer_;
  int64_t end_ = 0;
  uint64_t state_records_ = 0;
};

// The blocks of one inode, as many runs a record as fit.
absl::Status WritePresent(const InodeState& state, CheckpointWriter& writer) {
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
    PBKFS_RETURN_IF_ERROR(writer.State(record));
    record.runs.clear();
    previous_end = 0;
  }
  return record.runs.empty() ? absl::OkStatus() : writer.State(record);
}

absl::Status WriteNames(const DirectoryTable& names, CheckpointWriter& writer) {
  absl::Status status;
  names.VisitHidden([&](uint64_t parent, absl::string_view name) {
    if (status.ok()) status = writer.State(WhiteoutRecord{parent, std::string(name)});
  });
  names.VisitAdded(
      [&](uint64_t parent, absl::string_view name, const DirectoryTable::Entry& entry) {
        if (status.ok()) {
          status = writer.State(DirentRecord{parent, std::string(name), entry.ino, entry.cookie});
        }
      });
  return status;
}

}  // namespace

absl::StatusOr<NewLog> ReplaceLogByCheckpoint(IoDir& directory, const DiffState& state,
                                              OpenRecord open, uint64_t generation) {
  NewLog log;
  PBKFS_ASSIGN_OR_RETURN(log.file,
                         directory.OpenFile(kNewLogName, O_RDWR | O_CREAT | O_TRUNC, 0600));
  const uint64_t seed = RandomNonce();
  CheckpointWriter writer(*log.file, seed);
  PBKFS_RETURN_IF_ERROR(writer.Raw(EncodeLogHeader({seed, generation})));
  CheckpointBeginRecord begin;
  begin.next_ino = state.next_ino;
  begin.next_sequence = state.next_sequence;
  begin.session_nonce = open.session_nonce;
  begin.evidence = open.evidence;
  PBKFS_RETURN_IF_ERROR(writer.Raw(EncodeRecord(begin, 0, 0, seed)));
  for (const auto& [ino, inode] : state.inodes) {
    if (inode->nlink == 0) continue;
    PBKFS_RETURN_IF_ERROR(writer.State(inode->ToCheckpoint(state.next_sequence - 1)));
    PBKFS_RETURN_IF_ERROR(WritePresent(*inode, writer));
  }
  PBKFS_RETURN_IF_ERROR(WriteNames(state.names, writer));
  const CheckpointEndRecord end{writer.state_records()};
  PBKFS_RETURN_IF_ERROR(writer.Raw(EncodeRecord(end, 0, 0, seed)));
  open.next_seed = seed;
  PBKFS_RETURN_IF_ERROR(writer.Raw(EncodeRecord(open, state.next_sequence, 0, seed)));
  PBKFS_RETURN_IF_ERROR(writer.Flush());
  PBKFS_RETURN_IF_ERROR(log.file->DataSync());
  PBKFS_RETURN_IF_ERROR(directory.Rename(kNewLogName, directory, kLogName));
  PBKFS_RETURN_IF_ERROR(directory.Sync());
  log.position.seed = seed;
  log.position.next_sequence = state.next_sequence + 1;
  log.position.end = writer.end();
  log.position.durable_to = writer.end();
  return log;
}

}  // namespace pbkfs
