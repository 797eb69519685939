// Taking bytes away: truncation, punching, undoing an extension. What could not be finished is kept
// and finished before the inode takes another write; until then nothing may be added that would
// make the old bytes show.
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "fs/base/blocking.h"
#include "fs/base/status.h"
#include "fs/overlay/overlay.h"

namespace pbkfs {

absl::Status Overlay::CheckUsable(const Inode& inode) const {
  if (!inode.refuses_writes) return absl::OkStatus();
  return ErrnoError(EIO, absl::StrCat("inode ", inode.ino,
                                      " takes no writes until a truncation of its data file that "
                                      "failed is done; it is tried again with every write"));
}

void Overlay::RefuseWrites(Inode& inode, Destruction unfinished) {
  MutexLock lock(&inode.mutex);
  inode.unfinished.push_back(std::move(unfinished));
  inode.refuses_writes = true;
  inode.settled.SignalAll();
}

// An extension that failed leaves nothing behind.
void Overlay::CutBack(Inode& inode, IoFile& data, int64_t size) {
  if (data.Truncate(size).ok()) return;
  RefuseWrites(inode, {0, false, [size](IoFile& file) { return file.Truncate(size); }});
}

// The second half of every destruction: what the log announced is done in the data file, and the
// log is told so.
absl::Status Overlay::FinishDestruction(Inode& inode, Destruction destruction) {
  const absl::Status status = Destroy(inode, destruction);
  if (!status.ok()) RefuseWrites(inode, std::move(destruction));
  MutexLock lock(&inode.mutex);
  inode.settled.SignalAll();
  return status;
}

absl::Status Overlay::Destroy(Inode& inode, const Destruction& destruction) {
  const BlockingScope blocking;
  // Bytes that were synced may go only after the record that says so can't be lost.
  if (destruction.confirmed) PBKFS_RETURN_IF_ERROR(diff_->log().Sync(destruction.sequence));
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<IoFile> data, DataFile(inode));
  if (data != nullptr) PBKFS_RETURN_IF_ERROR(destruction.destroy(*data));
  if (destruction.sequence == 0) return absl::OkStatus();
  CutRecord cut;
  cut.ino = inode.ino;
  cut.sequence = destruction.sequence;
  PBKFS_RETURN_IF_ERROR(diff_->log().Append(cut).status());
  MutexLock lock(&inode.mutex);
  inode.state.layout.Apply(cut);
  return absl::OkStatus();
}

// Finishes what a failure left undone. Nobody changes the inode meanwhile.
absl::Status Overlay::Repair(Inode& inode) {
  if (!inode.refuses_writes) return absl::OkStatus();
  Ticket ticket = pending_.DrawResize(inode.pending, 0, inode.size_hint);
  ticket.Wait();
  std::vector<Destruction> unfinished;
  {
    MutexLock lock(&inode.mutex);
    unfinished = std::move(inode.unfinished);
    inode.unfinished.clear();
  }
  absl::Status status;
  size_t done = 0;
  while (done < unfinished.size() && status.ok()) {
    status = Destroy(inode, unfinished[done]);
    if (status.ok()) ++done;
  }
  MutexLock lock(&inode.mutex);
  for (; done < unfinished.size(); ++done) {
    inode.unfinished.push_back(std::move(unfinished[done]));
  }
  inode.refuses_writes = !inode.unfinished.empty();
  inode.settled.SignalAll();
  return status;
}

}  // namespace pbkfs
