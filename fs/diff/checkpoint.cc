#include "fs/diff/checkpoint.h"

#include <fcntl.h>

#include <limits>
#include <string>
#include <utility>

#include "fs/base/status.h"
#include "fs/diff/page_cache_evidence.h"

namespace pbkfs {
namespace {

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

absl::Status WriteInode(const InodeState& state, CheckpointWriter& writer) {
  PBKFS_RETURN_IF_ERROR(writer.State(state.ToCheckpoint()));
  constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
  for (auto run = state.layout.present.NextRun(0, kAll); run.second > 0;
       run = state.layout.present.NextRun(run.first + run.second, kAll)) {
    PresentRecord present;
    present.ino = state.ino;
    present.first = run.first;
    present.count = run.second;
    PBKFS_RETURN_IF_ERROR(writer.State(present));
  }
  return absl::OkStatus();
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
                                              uint64_t generation) {
  NewLog log;
  PBKFS_ASSIGN_OR_RETURN(log.file,
                         directory.OpenFile(kNewLogName, O_RDWR | O_CREAT | O_TRUNC, 0600));
  log.position.seed = RandomNonce();
  log.position.next_sequence = state.next_sequence;
  CheckpointWriter writer(*log.file, log.position.seed);
  PBKFS_RETURN_IF_ERROR(writer.Raw(EncodeLogHeader({log.position.seed, generation})));
  CheckpointBeginRecord begin;
  begin.next_ino = state.next_ino;
  begin.next_sequence = state.next_sequence;
  PBKFS_RETURN_IF_ERROR(writer.Raw(EncodeRecord(begin, 0, 0, log.position.seed)));
  for (const auto& [ino, inode] : state.inodes) {
    if (inode->nlink > 0) PBKFS_RETURN_IF_ERROR(WriteInode(*inode, writer));
  }
  PBKFS_RETURN_IF_ERROR(WriteNames(state.names, writer));
  const CheckpointEndRecord end{writer.state_records()};
  PBKFS_RETURN_IF_ERROR(writer.Raw(EncodeRecord(end, 0, 0, log.position.seed)));
  PBKFS_RETURN_IF_ERROR(writer.Flush());
  PBKFS_RETURN_IF_ERROR(log.file->DataSync());
  PBKFS_RETURN_IF_ERROR(directory.Rename(kNewLogName, directory, kLogName));
  PBKFS_RETURN_IF_ERROR(directory.Sync());
  log.position.end = writer.end();
  log.position.durable_to = writer.end();
  return log;
}

}  // namespace pbkfs
