// One inode of a mount while it is in use, and the table of them.
//
// Lock order: a ticket of `pending` is waited for without any lock held; the overlay's namespace
// lock comes before an inode's mutex; an inode's mutex is held for work in memory and for appending
// records, never while data is read, written or synced.
#ifndef PBKFS_FS_OVERLAY_INODE_H_
#define PBKFS_FS_OVERLAY_INODE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "fs/base/io.h"
#include "fs/base/lower_tree.h"
#include "fs/base/mutex.h"
#include "fs/diff/inode_state.h"
#include "fs/overlay/pending_ops.h"

namespace pbkfs {

// Bytes of a data file that the log says are gone, and how they go.
struct Destruction {
  uint64_t sequence = 0;   // Of the record; 0 = there is none, they were never acknowledged.
  bool confirmed = false;  // Bytes that were synced are among them.
  std::function<absl::Status(IoFile&)> destroy;
};

struct Inode {
  Inode(InodeState initial, bool in_diff)
      : ino(initial.ino),
        size_hint(initial.layout.size),
        state(std::move(initial)),
        changed(in_diff) {}

  const uint64_t ino;
  PendingQueue pending;
  // The logical size, for drawing tickets without the mutex.
  std::atomic<int64_t> size_hint;

  Mutex mutex;
  InodeState state ABSL_GUARDED_BY(mutex);
  // The diff knows the inode: its state can't be made anew from the image.
  bool changed ABSL_GUARDED_BY(mutex);
  int open_handles ABSL_GUARDED_BY(mutex) = 0;
  // Grows before bytes are destroyed, so that a reader notices that what it read may be torn.
  uint64_t destroyed ABSL_GUARDED_BY(mutex) = 0;

  // Backing files, opened at first use. The data file stays open while it has writes that were not
  // synced, so that no writeback error is missed.
  std::shared_ptr<IoFile> data ABSL_GUARDED_BY(mutex);
  std::shared_ptr<const LowerFile> lower ABSL_GUARDED_BY(mutex);

  // Writes that were finished, and how many of them the last successful fdatasync covers.
  uint64_t writes ABSL_GUARDED_BY(mutex) = 0;
  uint64_t synced_writes ABSL_GUARDED_BY(mutex) = 0;
  bool data_entry_synced ABSL_GUARDED_BY(mutex) = false;  // The entry in data/ is durable.
  // Bytes that a Synced may vouch for which `state` does not know yet: it is on its way into the
  // log, or its sync failed.
  int64_t claimed_size ABSL_GUARDED_BY(mutex) = 0;
  bool listed_dirty ABSL_GUARDED_BY(mutex) = false;  // The background pass knows the inode.
  // One sync at a time: the kernel tells a failure to one caller only. Signalled when a sync or a
  // destruction ends.
  bool syncing ABSL_GUARDED_BY(mutex) = false;
  CondVar settled;
  // Destructions that failed. While there are any the inode takes no writes, so that the bytes
  // can't show again.
  std::vector<Destruction> unfinished ABSL_GUARDED_BY(mutex);
  std::atomic<bool> refuses_writes{false};  // Changed under the mutex.

  // What the budget of the diff counts for the data file.
  int64_t space_taken ABSL_GUARDED_BY(mutex) = 0;
  // Bytes that were written since a write-out was last started, and where they are.
  int64_t unhinted_bytes ABSL_GUARDED_BY(mutex) = 0;
  int64_t unhinted_begin ABSL_GUARDED_BY(mutex) = 0;
  int64_t unhinted_end ABSL_GUARDED_BY(mutex) = 0;

  bool DataDirty() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) { return writes != synced_writes; }
  // Bytes below it were synced, or may have been: they may go only after the record that says so
  // is durable.
  int64_t ConfirmedSize() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const int64_t synced = state.layout.synced_through != 0 ? state.layout.synced_size : 0;
    return std::max(synced, claimed_size);
  }
};

// The inodes that the kernel or the diff knows. Thread-safe.
class InodeTable {
 public:
  // Null where it is not there.
  std::shared_ptr<Inode> Find(uint64_t ino) const;
  // `inode`, or the one that is there already.
  std::shared_ptr<Inode> Insert(std::shared_ptr<Inode> inode);
  // Removes the inode when nobody but the table has it and `removable` agrees, and returns it.
  template <typename Predicate>
  std::shared_ptr<Inode> Extract(uint64_t ino, Predicate removable) {
    WriterLock lock(&mutex_);
    const auto found = inodes_.find(ino);
    if (found == inodes_.end() || found->second.use_count() != 1 || !removable(*found->second)) {
      return nullptr;
    }
    std::shared_ptr<Inode> inode = std::move(found->second);
    inodes_.erase(found);
    return inode;
  }
  std::vector<std::shared_ptr<Inode>> All() const;
  // An inode of the image that lost its last name and was let go of: the image must not show
  // through it again, should somebody still know its number.
  void MarkGone(uint64_t ino);
  bool IsGone(uint64_t ino) const;
  size_t size() const {
    ReaderLock lock(&mutex_);
    return inodes_.size();
  }

 private:
  mutable SharedMutex mutex_;
  absl::flat_hash_map<uint64_t, std::shared_ptr<Inode>> inodes_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<uint64_t> gone_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_FS_OVERLAY_INODE_H_
