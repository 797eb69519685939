// Work off the request path: confirming writes that nobody synced, removing the data files of files
// that are gone.
#include <algorithm>
#include <cerrno>

#include "fs/base/blocking.h"
#include "fs/base/status.h"
#include "fs/overlay/overlay.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

// How much is written to a file before its write-out is started.
constexpr int64_t kWritebackBytes = int64_t{1} << 20;
// How many inodes may wait for the background pass: each may hold an open file.
constexpr size_t kMaxListed = 1024;

}  // namespace

void Overlay::ListDirty(const InodePtr& inode) {
  {
    MutexLock lock(&inode->mutex);
    ++inode->writes;
    if (inode->listed_dirty) return;
    inode->listed_dirty = true;
  }
  MutexLock lock(&dirty_mutex_);
  dirty_.push_back(inode->ino);
  if (dirty_.size() >= kMaxListed) background_wake_.SignalAll();
}

// Data that nobody syncs is written out bit by bit, not all at once by the background pass.
void Overlay::HintWriteback(Inode& inode, const std::shared_ptr<IoFile>& data, int64_t begin,
                            int64_t end) {
  inode.unhinted_begin = inode.unhinted_bytes == 0 ? begin : std::min(inode.unhinted_begin, begin);
  inode.unhinted_end = inode.unhinted_bytes == 0 ? end : std::max(inode.unhinted_end, end);
  inode.unhinted_bytes += end - begin;
  if (inode.unhinted_bytes < kWritebackBytes) return;
  inode.unhinted_bytes = 0;
  // Dropped where the queue is full: the next one covers other bytes, and the background pass all.
  idle_work_.Offer(
      [data, from = inode.unhinted_begin, length = inode.unhinted_end - inode.unhinted_begin] {
        data->StartWriteback(from, length);
      });
}

// Lets go of an inode that was taken out of the table: its files are closed, and what is left of an
// orphan is removed.
void Overlay::Reap(const InodePtr& inode) {
  bool orphan_with_data = false;
  bool is_directory = false;
  int64_t space_taken = 0;
  {
    MutexLock lock(&inode->mutex);
    inode->synced_writes = inode->writes;
    inode->open_handles = 0;
    DropIdleFiles(*inode);
    if (inode->state.nlink > 0) return;
    orphan_with_data = inode->state.layout.has_data;
    is_directory = inode->state.IsDirectory();
    space_taken = inode->space_taken;
  }
  if (inode->ino < kFirstNewIno) inodes_.MarkGone(inode->ino);
  if (is_directory) {
    WriterLock lock(&namespace_mutex_);
    names_.Forget(inode->ino);
  }
  ReapRecord record;
  record.ino = inode->ino;
  const absl::StatusOr<uint64_t> sequence = diff_->log().Append(record);
  if (!sequence.ok()) {
    // The log is closed; the next mount finds the orphan and removes it.
    spdlog::warn("diff {}: inode {} not reaped: {}", diff_->path(), inode->ino,
                 sequence.status().ToString());
    return;
  }
  if (!orphan_with_data) return;
  MutexLock lock(&dirty_mutex_);
  doomed_.push_back({*sequence, inode->ino, space_taken});
  if (doomed_.size() % kMaxListed == 0) background_wake_.SignalAll();
}

bool Overlay::RemoveDoomed() {
  std::vector<Doomed> doomed;
  {
    MutexLock lock(&dirty_mutex_);
    doomed.swap(doomed_);
  }
  if (doomed.empty()) return false;
  const BlockingScope blocking;
  bool removed_any = false;
  uint64_t last = 0;
  for (const auto& [sequence, ino, taken] : doomed) last = std::max(last, sequence);
  diff_->log().Sync(last).IgnoreError();
  std::vector<Doomed> undurable;  // Until the log gets another file.
  for (const auto& [sequence, ino, taken] : doomed) {
    if (!diff_->log().IsDurable(sequence)) {
      undurable.push_back({sequence, ino, taken});
      continue;
    }
    const absl::Status removed = diff_->RemoveData(ino);
    if (removed.ok()) {
      space_.Adjust(-taken);
      removed_any = true;
    }
    if (!removed.ok() && ErrnoOf(removed) != ENOENT) {
      spdlog::warn("diff {}: {}; it goes to trash at the next mount", diff_->path(),
                   removed.ToString());
    }
  }
  MutexLock lock(&dirty_mutex_);
  doomed_.insert(doomed_.end(), undurable.begin(), undurable.end());
  return removed_any;
}

void Overlay::ConfirmDirty() {
  std::vector<uint64_t> dirty;
  {
    MutexLock lock(&dirty_mutex_);
    dirty.swap(dirty_);
    confirming_ = true;
  }
  for (const uint64_t ino : dirty) {
    if (const InodePtr inode = inodes_.Find(ino)) Confirm(*inode);  // Else an orphan that is gone.
    MutexLock lock(&dirty_mutex_);
    confirmed_.SignalAll();
  }
  MutexLock lock(&dirty_mutex_);
  confirming_ = false;
  ++passes_;
  confirmed_.SignalAll();
}

void Overlay::Confirm(Inode& inode) {
  {
    MutexLock lock(&inode.mutex);
    inode.listed_dirty = false;
    if (inode.state.nlink == 0) return;
  }
  Repair(inode).IgnoreError();
  Ticket ticket = pending_.Draw(inode.pending, PendingRole::kBarrier, {});
  ticket.Wait();
  const absl::Status synced = SyncInode(inode);
  MutexLock lock(&inode.mutex);
  DropIdleFiles(inode);
  // A failure of the data file is kept in the inode and answered to whoever calls fsync; one of the
  // log passes when the log gets another file.
  if (synced.ok() || inode.state.layout.failed || inode.listed_dirty) return;
  inode.listed_dirty = true;
  MutexLock dirty_lock(&dirty_mutex_);
  dirty_.push_back(inode.ino);
}

absl::Status Overlay::Checkpoint() {
  const bool heals = diff_->log().SyncFailed();
  const absl::Status written = diff_->Checkpoint(*lower_, [this] {
    // A record and its answer are there together under this lock.
    ReaderLock lock(&namespace_mutex_);
    return answers_.Unanswered();
  });
  // A sync of the new file may have failed, before or while this is said.
  if (heals && written.ok()) options_.log_failed(false);
  if (diff_->log().SyncFailed()) options_.log_failed(true);
  return written;
}

void Overlay::Maintain() {
  std::vector<uint64_t> forgotten;
  {
    MutexLock lock(&dirty_mutex_);
    forgotten.swap(forgotten_);
  }
  ConfirmDirty();
  for (const uint64_t ino : forgotten) Forget(ino);
  RemoveDoomed();
  MeasureSpace();
  if (!diff_->CheckpointDue(options_.checkpoint_growth_bytes)) return;
  const absl::Status written = Checkpoint();
  if (!written.ok()) spdlog::warn("{}; the log goes on as it is", written.ToString());
}

void Overlay::RunBackground() {
  while (true) {
    {
      MutexLock lock(&dirty_mutex_);
      if (!stopping_) background_wake_.WaitFor(&dirty_mutex_, options_.background_interval);
      if (stopping_) return;
    }
    Maintain();
  }
}

void Overlay::StopBackground() {
  {
    MutexLock lock(&dirty_mutex_);
    stopping_ = true;
    background_wake_.SignalAll();
  }
  if (background_.joinable()) background_.join();
}

}  // namespace pbkfs
