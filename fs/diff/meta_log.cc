#include "fs/diff/meta_log.h"

#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "fs/base/status.h"
#include "fs/diff/limits.h"

namespace pbkfs {
namespace {

// Records that give space back or confirm data: they may use the whole reserve.
bool ReleasesSpace(const Record& record) {
  return std::visit(
      [](const auto& value) {
        using T = std::remove_cvref_t<decltype(value)>;
        return std::is_same_v<T, OpenRecord> || std::is_same_v<T, UnlinkRecord> ||
               std::is_same_v<T, SizeRecord> || std::is_same_v<T, CutRecord> ||
               std::is_same_v<T, SyncedRecord> || std::is_same_v<T, FailedRecord> ||
               std::is_same_v<T, ReapRecord> || std::is_same_v<T, CleanUnmountRecord>;
      },
      record);
}

absl::Span<const uint8_t> AsBytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

MetaLog::MetaLog(NewLog log)
    : file_(std::move(log.file)),
      position_(log.position),
      reserved_end_(log.reserved_end),
      last_sequence_(position_.next_sequence - 1),
      durable_sequence_(position_.durable_to >= position_.end ? position_.next_sequence - 1 : 0),
      end_bytes_(position_.end) {}

absl::StatusOr<uint64_t> MetaLog::Append(const Record& record) {
  MutexLock lock(&append_mutex_);
  return AppendLocked(record);
}

absl::StatusOr<uint64_t> MetaLog::AppendLocked(const Record& record) {
  if (!closed_.ok()) return closed_;
  const uint64_t sequence = position_.next_sequence;
  const std::string bytes =
      EncodeRecord(record, sequence, static_cast<uint64_t>(position_.durable_to), position_.seed);
  const auto size = static_cast<int64_t>(bytes.size());
  PBKFS_RETURN_IF_ERROR(Reserve(size, ReleasesSpace(record)));
  const absl::Status written = file_->Write(position_.end, AsBytes(bytes));
  if (!written.ok()) {
    const absl::Status cut = file_->Truncate(position_.end);
    reserved_end_ = position_.end;  // The truncation gave the reserve back too.
    if (!cut.ok() || ErrnoOf(written) == EROFS) {
      closed_ = Annotate(written, "the log of the diff is closed after a failed append");
    }
    return written;
  }
  position_.end += size;
  ++position_.next_sequence;
  end_bytes_.store(position_.end, std::memory_order_relaxed);
  last_sequence_.store(sequence, std::memory_order_release);
  return sequence;
}

absl::Status MetaLog::Reserve(int64_t record_bytes, bool releases_space) {
  const int64_t floor = releases_space ? 0 : kLogEmergencyBytes;
  if (position_.end + record_bytes + floor <= reserved_end_) return absl::OkStatus();
  const absl::Status status = file_->Allocate(FALLOC_FL_KEEP_SIZE, position_.end, kLogReserveBytes);
  if (status.ok()) {
    reserved_end_ = position_.end + kLogReserveBytes;
    return absl::OkStatus();
  }
  // A file system without fallocate gives no reserve; the append itself then tells whether there is
  // space.
  if (ErrnoOf(status) == EOPNOTSUPP) return absl::OkStatus();
  return releases_space ? absl::OkStatus() : status;
}

absl::Status MetaLog::OpenEpoch(OpenRecord record) {
  const uint64_t seed = record.next_seed;
  uint64_t sequence = 0;
  {
    MutexLock lock(&append_mutex_);
    PBKFS_ASSIGN_OR_RETURN(sequence, AppendLocked(Record(std::move(record))));
    position_.seed = seed;
  }
  return Sync(sequence);
}

absl::Status MetaLog::Sync(uint64_t through) {
  sync_mutex_.Lock();
  while (true) {
    if (!sync_failed_.ok() || IsDurable(through)) {
      const absl::Status result = sync_failed_;
      sync_mutex_.Unlock();
      return result;
    }
    if (!syncing_) break;
    sync_done_.Wait(&sync_mutex_);
  }
  syncing_ = true;
  sync_mutex_.Unlock();

  std::shared_ptr<IoFile> file;
  uint64_t generation = 0;
  int64_t end = 0;
  uint64_t last = 0;
  {
    MutexLock lock(&append_mutex_);
    file = file_;
    generation = generation_;
    end = position_.end;
    last = position_.next_sequence - 1;
  }
  const absl::Status status = file->DataSync();

  MutexLock lock(&sync_mutex_);
  syncing_ = false;
  sync_done_.SignalAll();
  MutexLock append_lock(&append_mutex_);
  // A file that took this one's place meanwhile is durable with everything up to then.
  if (generation_ != generation) return sync_failed_;
  if (status.ok()) {
    position_.durable_to = std::max(position_.durable_to, end);
    durable_sequence_.store(last, std::memory_order_release);
  } else {
    sync_failed_ = Annotate(status, "a sync of the diff's log failed");
    sync_failed_in_ = generation;
  }
  return sync_failed_;
}

std::shared_ptr<IoFile> MetaLog::file() const {
  MutexLock lock(&append_mutex_);
  return file_;
}

absl::Status MetaLog::Replace(Finish finish) {
  absl::Status status;
  uint64_t generation = 0;
  {
    MutexLock lock(&append_mutex_);
    if (!closed_.ok()) return closed_;
    bool renamed = false;
    absl::StatusOr<NewLog> log = finish(position_.end, &renamed);
    if (!log.ok() && !renamed) return log.status();
    if (log.ok()) {
      log->position.next_sequence = position_.next_sequence;
      position_ = log->position;
      file_ = std::move(log->file);
      reserved_end_ = log->reserved_end;
      generation = ++generation_;
      end_bytes_.store(position_.end, std::memory_order_relaxed);
      durable_sequence_.store(position_.next_sequence - 1, std::memory_order_release);
    } else {
      // It is not known which of both files the name shows after a crash.
      status = closed_ = Annotate(log.status(), "the log of the diff is closed");
    }
  }
  MutexLock lock(&sync_mutex_);
  // A sync of the new file may have failed already.
  if (!status.ok() || sync_failed_in_ != generation) sync_failed_ = status;
  return status;
}

bool MetaLog::SyncFailed() const {
  MutexLock lock(&sync_mutex_);
  return !sync_failed_.ok();
}

absl::Status MetaLog::health() const {
  {
    MutexLock lock(&sync_mutex_);
    if (!sync_failed_.ok()) return sync_failed_;
  }
  MutexLock lock(&append_mutex_);
  return closed_;
}

}  // namespace pbkfs
