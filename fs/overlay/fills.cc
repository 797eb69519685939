// materialize_on_read: blocks that were read from the image are copied into the data file, so that
// later reads no longer need the image.
//
// A fill changes nothing that anybody can see: the block reads the same before and after. So it is
// dropped wherever something else is about to happen to the block. What it needs from the image it
// reads before it draws its ticket; under the ticket, which only a write of the same block waits
// for, it is one pwrite and one record. Readers and fsync do not wait for it: until its Present is
// in the log the block is the image's, and a Synced covers the Present only if the bytes were there
// before the sync began.
#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "fs/base/status.h"
#include "fs/overlay/block_math.h"
#include "fs/overlay/overlay.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

// How much a write of the same block may have to wait for: a copy into the page cache.
constexpr int64_t kMaxFillBlocks = 16;

}  // namespace

// After a read of [begin, end) from the image.
void Overlay::OfferFill(uint64_t ino, int64_t begin, int64_t end) {
  const int64_t first = begin / kBlockSize;
  const int64_t blocks = BlockCeil(end) / kBlockSize - first;
  if (!idle_work_.Offer([this, ino, first, blocks] { Fill(ino, first, first + blocks); })) {
    stats().Add(IoCounter::kFillsQueueFull, static_cast<uint64_t>(blocks));
  }
}

// The first blocks of [first, end) that a fill may copy; empty = none. `end_byte` is where their
// bytes end. A last block that the file outgrew is left to the write that completes it.
Overlay::FillRun Overlay::MissingRun(const Inode& inode, int64_t first, int64_t end) {
  const FileLayout& layout = inode.state.layout;
  if (inode.state.nlink == 0 || layout.failed || inode.refuses_writes) return {};
  const int64_t limit = layout.size == layout.lower_limit
                            ? BlockCeil(layout.lower_limit) / kBlockSize
                            : layout.lower_limit / kBlockSize;
  end = std::min(end, limit);
  while (first < end && layout.present.Contains(first)) ++first;
  if (first >= end) return {};
  const int64_t count = layout.present.CountSame(first, std::min(end - first, kMaxFillBlocks));
  return {first, first + count, std::min((first + count) * kBlockSize, layout.lower_limit)};
}

void Overlay::Fill(uint64_t ino, int64_t first, int64_t end) {
  const auto dropped = [this](IoCounter counter, int64_t blocks) {
    stats().Add(counter, static_cast<uint64_t>(blocks));
  };
  // By number: what the kernel has forgotten meanwhile needs no copy.
  const InodePtr inode = inodes_.Find(ino);
  if (inode == nullptr) return dropped(IoCounter::kFillsConflict, end - first);
  while (first < end) {
    FillRun run;
    {
      MutexLock lock(&inode->mutex);
      run = MissingRun(*inode, first, end);
    }
    if (run.first == run.end) return dropped(IoCounter::kFillsPresent, end - first);
    dropped(IoCounter::kFillsPresent, run.first - first);
    const int64_t blocks = run.end - run.first;
    if (!RoomForFill(blocks * kBlockSize)) {
      return dropped(IoCounter::kFillsNoSpace, end - run.first);
    }
    const absl::StatusOr<bool> filled = FillBlocks(inode, run);
    if (!filled.ok()) {
      spdlog::debug("diff {}: copying blocks of inode {}: {}", diff_->path(), ino,
                    filled.status().ToString());
      return dropped(IoCounter::kFillsFailed, end - run.first);
    }
    dropped(*filled ? IoCounter::kFillsDone : IoCounter::kFillsConflict, blocks);
    first = run.end;
  }
}

// False = something else was faster.
absl::StatusOr<bool> Overlay::FillBlocks(const InodePtr& inode, const FillRun& run) {
  const int64_t offset = run.first * kBlockSize;
  std::vector<uint8_t> bytes(static_cast<size_t>(run.end_byte - offset));
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const LowerFile> lower, LowerOf(*inode));
  PBKFS_RETURN_IF_ERROR(lower->ReadAt(offset, absl::MakeSpan(bytes), &stats()));

  std::optional<Ticket> ticket =
      pending_.TryDrawFill(inode->pending, {offset, run.end * kBlockSize});
  if (!ticket.has_value()) return false;
  {
    MutexLock lock(&inode->mutex);
    // What was there when the image was read must be there now: nothing may be put over a write.
    const FillRun now = MissingRun(*inode, run.first, run.end);
    if (now.first != run.first || now.end != run.end || now.end_byte != run.end_byte) return false;
  }
  PBKFS_ASSIGN_OR_RETURN(const int64_t claimed, ClaimSpace(*inode, offset, run.end_byte - offset));
  const absl::Status status = CopyIn(*inode, offset, bytes);
  SettleSpace(*inode, claimed);
  if (status.ok()) ListDirty(inode);
  PBKFS_RETURN_IF_ERROR(status);
  return true;
}

absl::Status Overlay::CopyIn(Inode& inode, int64_t offset, absl::Span<const uint8_t> bytes) {
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<IoFile> data, DataFileForWriting(inode));
  // A failure leaves bytes that nobody looks at: the block is not present.
  const absl::Status written = data->Write(offset, bytes);
  PresentRecord record;
  record.ino = inode.ino;
  record.first = offset / kBlockSize;
  record.count = BlockCeil(offset + static_cast<int64_t>(bytes.size())) / kBlockSize - record.first;
  MutexLock lock(&inode.mutex);
  // The time of the last write, which replay takes from the data file. A write that is under way
  // has set it already.
  KeepTime(inode, *data);
  PBKFS_RETURN_IF_ERROR(written);
  PBKFS_ASSIGN_OR_RETURN(const uint64_t sequence, diff_->log().Append(record));
  inode.state.layout.Apply(record, sequence);
  stats().Add(IoCounter::kBytesCopied, bytes.size());
  return absl::OkStatus();
}

}  // namespace pbkfs
