// fsync: what is durable, and how that is recorded (FORMAT.md, "Synced").
#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "fs/base/blocking.h"
#include "fs/base/status.h"
#include "fs/overlay/overlay.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

// How long a data file is; a write that is under way may have made it longer than the file `size`.
absl::StatusOr<int64_t> DataBytes(IoFile& data, int64_t size) {
  PBKFS_ASSIGN_OR_RETURN(const struct stat attributes, data.Stat());
  return std::min<int64_t>(attributes.st_size, size);
}

}  // namespace

absl::Status Overlay::Fsync(uint64_t ino) {
  if (IsSideIno(ino)) return absl::OkStatus();
  const InodePtr inode = inodes_.Find(ino);
  if (inode == nullptr) return absl::OkStatus();  // Never written.
  PBKFS_RETURN_IF_ERROR(Repair(*inode));
  Ticket ticket = pending_.Draw(inode->pending, PendingRole::kBarrier, {});
  ticket.Wait();
  return SyncInode(*inode);
}

absl::Status Overlay::SyncInode(Inode& inode) {
  const BlockingScope blocking;
  PBKFS_RETURN_IF_ERROR(PassGate());
  {
    MutexLock lock(&inode.mutex);
    while (inode.syncing) inode.settled.Wait(&inode.mutex);
    if (!inode.changed) return absl::OkStatus();
    inode.syncing = true;
  }
  const absl::Status status = SyncExclusively(inode);
  // The log can't tell that it failed itself.
  if (!status.ok() && !health().ok()) options_.log_failed(true);
  MutexLock lock(&inode.mutex);
  inode.syncing = false;
  inode.settled.SignalAll();
  return status;
}

absl::Status Overlay::SyncExclusively(Inode& inode) {
  MetaLog& log = diff_->log();
  SyncedRecord record;
  record.ino = inode.ino;
  uint64_t last_record = 0;
  uint64_t writes = 0;
  bool sync_data = false;
  bool sync_entry = false;
  std::shared_ptr<IoFile> data;
  {
    MutexLock lock(&inode.mutex);
    const FileLayout& layout = inode.state.layout;
    // A destruction that came later is nearly done; until then the size and the data file disagree.
    while (layout.uncut != 0 && !inode.refuses_writes) inode.settled.Wait(&inode.mutex);
    if (layout.failed || inode.refuses_writes) {
      return ErrnoError(EIO, absl::StrCat("an earlier write-out of inode ", inode.ino,
                                          " failed; mount again to see what is durable"));
    }
    // One look at both: the size is exact as of this record.
    record.through = log.last_sequence();
    record.size = layout.size;
    writes = inode.writes;
    last_record = std::max(inode.state.last_name, layout.last_layout);
    sync_entry = layout.has_data && !inode.data_entry_synced;
    sync_data = layout.has_data &&
                (inode.DataDirty() || sync_entry || layout.last_layout > layout.synced_through);
    if (sync_data) {
      PBKFS_ASSIGN_OR_RETURN(data, DataFileLocked(inode));
      PBKFS_ASSIGN_OR_RETURN(record.data_bytes, DataBytes(*data, record.size));
    }
  }
  if (!sync_data) return log.Sync(last_record);
  if (const absl::Status synced = data->DataSync(); !synced.ok()) return MarkFailed(inode, synced);
  if (sync_entry) PBKFS_RETURN_IF_ERROR(diff_->SyncDataDirectory());
  {
    MutexLock lock(&inode.mutex);
    inode.synced_writes = writes;
    inode.data_entry_synced = true;
    FileLayout& layout = inode.state.layout;
    // The short path: the last Synced says all that there is to say. A size that grew since is
    // believed because no explicit size follows that record.
    if (layout.last_layout <= layout.synced_through && log.IsDurable(inode.state.last_name)) {
      // What was confirmed may be destroyed only after the record that says so is durable.
      layout.synced_size = std::max(layout.synced_size, record.size);
      return absl::OkStatus();
    }
    // A truncation that comes before the record is durable must not be on the disk without its own
    // record: the data file would be shorter than this one says.
    inode.claimed_size = std::max(inode.claimed_size, record.size);
  }
  PBKFS_ASSIGN_OR_RETURN(const uint64_t sequence, log.Append(record));
  PBKFS_RETURN_IF_ERROR(log.Sync(sequence));
  MutexLock lock(&inode.mutex);
  inode.claimed_size = 0;
  FileLayout& layout = inode.state.layout;
  const int64_t size = layout.size;
  layout.Apply(record);
  layout.size = size;  // The live size is newer than what the record saw.
  return absl::OkStatus();
}

// Extensions have no record of their own, and the short path of a sync adds none. After a clean
// unmount the log tells every length, so that a data file that was cut or has grown since is
// noticed.
absl::Status Overlay::RecordSize(Inode& inode) {
  MutexLock lock(&inode.mutex);
  FileLayout& layout = inode.state.layout;
  if (!layout.has_data || !inode.data_entry_synced) return absl::OkStatus();
  SyncedRecord record;
  record.ino = inode.ino;
  record.through = diff_->log().last_sequence();
  record.size = layout.size;
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<IoFile> data, DataFileLocked(inode));
  PBKFS_ASSIGN_OR_RETURN(record.data_bytes, DataBytes(*data, record.size));
  // After a takeover the layout tells what the disk has, which the log need not know.
  const bool logged = gate_ == nullptr && record.size == layout.synced_size &&
                      record.data_bytes == layout.data_bytes;
  if (logged) return absl::OkStatus();
  PBKFS_RETURN_IF_ERROR(diff_->log().Append(record).status());
  layout.Apply(record);
  return absl::OkStatus();
}

absl::Status Overlay::MarkFailed(Inode& inode, const absl::Status& cause) {
  spdlog::error("diff {}: sync of inode {} failed: {}; fsync of it fails until the next mount",
                diff_->path(), inode.ino, cause.ToString());
  {
    MutexLock lock(&inode.mutex);
    inode.state.layout.failed = true;
  }
  FailedRecord record;
  record.ino = inode.ino;
  record.error = ErrnoOf(cause);
  // Without the record the next mount still believes no more than the last Synced, but a process
  // that takes over would not know.
  if (!diff_->log().Append(record).ok()) options_.sync_failed();
  return cause;
}

}  // namespace pbkfs
