// SEEK_DATA and SEEK_HOLE. A hole is reported only where every byte is zero by layout: blocks that
// the image may show are data, whatever they hold.
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/overlay/block_math.h"
#include "fs/overlay/overlay.h"

namespace pbkfs {

// The run of blocks of one kind that begins at `offset`.
Overlay::SeekRun Overlay::RunAt(const Inode& inode, int64_t offset) {
  const FileLayout& layout = inode.state.layout;
  const int64_t block = offset / kBlockSize;
  if (!layout.Tracked(block)) return {layout.size, true};
  const int64_t tracked = BlockCeil(layout.lower_limit) / kBlockSize - block;
  const int64_t blocks = layout.present.CountSame(block, tracked);
  return {std::min(layout.size, (block + blocks) * kBlockSize), layout.present.Contains(block)};
}

// The answer for one look at the layout; -1 where there is none before the end of the file.
absl::StatusOr<int64_t> Overlay::TrySeek(Inode& inode, int64_t offset, int whence,
                                         uint64_t* destroyed) {
  {
    MutexLock lock(&inode.mutex);
    *destroyed = inode.destroyed;
  }
  for (int64_t at = offset;;) {
    SeekRun run;
    std::shared_ptr<IoFile> data;
    {
      MutexLock lock(&inode.mutex);
      // After a truncation in between the caller looks again.
      if (inode.destroyed != *destroyed || at >= inode.state.layout.size) return -1;
      run = RunAt(inode, at);
      // In the same look: a block that came into the data file came with the file.
      PBKFS_ASSIGN_OR_RETURN(data, DataFileLocked(inode));
    }
    int64_t found = run.end;
    if (!run.in_data_file) {
      if (whence == SEEK_DATA) found = at;
    } else if (data == nullptr) {
      if (whence == SEEK_HOLE) found = at;
    } else {
      PBKFS_ASSIGN_OR_RETURN(found, data->Seek(at, whence));
      // Nothing but zeros past the end of the data file.
      if (found < 0) found = whence == SEEK_HOLE ? at : run.end;
    }
    if (found < run.end) return found;
    at = run.end;
  }
}

absl::StatusOr<int64_t> Overlay::Seek(uint64_t ino, int64_t offset, int whence) {
  const auto no_data = [offset] {
    return ErrnoError(ENXIO, absl::StrCat("no data after offset ", offset));
  };
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return ErrnoError(EINVAL, "lseek");
  if (IsSideIno(ino)) {
    PBKFS_ASSIGN_OR_RETURN(const Attributes attributes, side_.GetAttributes(ino));
    if (offset < 0 || offset >= attributes.size) return no_data();
    return whence == SEEK_DATA ? offset : attributes.size;
  }
  PBKFS_ASSIGN_OR_RETURN(const InodePtr inode, GetRegular(ino));
  if (offset < 0) return no_data();
  Ticket ticket =
      pending_.Draw(inode->pending, PendingRole::kReader, {BlockFloor(offset), ByteRange{}.end});
  ticket.Wait();
  while (true) {
    uint64_t destroyed = 0;
    PBKFS_ASSIGN_OR_RETURN(const int64_t found, TrySeek(*inode, offset, whence, &destroyed));
    MutexLock lock(&inode->mutex);
    // As for Read: a later truncation may have taken bytes away under us.
    if (inode->destroyed != destroyed) continue;
    if (found >= 0) return found;
    const int64_t size = inode->state.layout.size;
    if (offset >= size || whence == SEEK_DATA) return no_data();
    return size;
  }
}

}  // namespace pbkfs
