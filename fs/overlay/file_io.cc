// Reading, writing and resizing files. Every function here that changes bytes runs under the
// inode's ticket for them, so that nobody else changes the layout of the same blocks meanwhile; the
// inode's mutex guards only the facts in memory.
#include <linux/falloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fs/base/blocking.h"
#include "fs/base/status.h"
#include "fs/diff/zero_range.h"
#include "fs/overlay/block_math.h"
#include "fs/overlay/overlay.h"

namespace pbkfs {
namespace {

constexpr std::array<uint8_t, kBlockSize> kZeros{};
// For descriptors: what the background pass has to write may take longer, and an error is better
// than a hang.
constexpr absl::Duration kDescriptorPatience = absl::Seconds(30);
constexpr std::chrono::milliseconds kDescriptorCheck{100};

// Data files that the mounts of this process have open.
std::atomic<int64_t> open_data_files{0};

std::shared_ptr<IoFile> Counted(std::unique_ptr<IoFile> file) {
  open_data_files.fetch_add(1, std::memory_order_relaxed);
  return {file.release(), [](IoFile* open) {
            delete open;
            open_data_files.fetch_sub(1, std::memory_order_relaxed);
          }};
}

// A part of what the process may open: the image's files, connections and other mounts need some.
int64_t MostDataFiles() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return INT64_MAX;
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur / 4, INT64_MAX));
}

}  // namespace

// ---- backing files ----

// A data file stays open until it is synced, so programs that write faster than the background pass
// syncs wait for it. Whoever holds a ticket may not: the pass needs it.
void Overlay::AwaitDescriptors(Inode& inode) {
  static const int64_t most_of_process = MostDataFiles();
  const int64_t most = options_.max_data_files > 0 ? options_.max_data_files : most_of_process;
  const auto too_many = [most] { return open_data_files.load(std::memory_order_relaxed) >= most; };
  if (!too_many()) return;
  {
    MutexLock lock(&inode.mutex);
    if (inode.data != nullptr) return;
  }
  // FSYNC alone waits for a takeover.
  if (gate_ != nullptr && !gate_->answered()) return;
  const BlockingScope blocking;
  const absl::Time deadline = absl::Now() + kDescriptorPatience;
  MutexLock lock(&dirty_mutex_);
  // A whole pass: what is open after it is in use, or can't be synced.
  const uint64_t enough = passes_ + (confirming_ ? 2 : 1);
  while (too_many() && passes_ < enough && !stopping_ && absl::Now() < deadline) {
    background_wake_.SignalAll();
    confirmed_.WaitFor(&dirty_mutex_, kDescriptorCheck);
  }
}

// The data file, or null where the inode has none.
absl::StatusOr<std::shared_ptr<IoFile>> Overlay::DataFile(Inode& inode) {
  MutexLock lock(&inode.mutex);
  return DataFileLocked(inode);
}

absl::StatusOr<std::shared_ptr<IoFile>> Overlay::DataFileLocked(Inode& inode) {
  if (!inode.state.layout.has_data) return std::shared_ptr<IoFile>();
  if (inode.data != nullptr) {
    stats().Add(IoCounter::kHandleHits);
    return inode.data;
  }
  stats().Add(IoCounter::kHandleMisses);
  PBKFS_ASSIGN_OR_RETURN(auto opened, diff_->OpenData(inode.ino));
  inode.data = Counted(std::move(opened));
  stats().Add(IoCounter::kHandlesOpened);
  return inode.data;
}

// The data file, made where the inode has none. The file exists before its record: a file that the
// log does not know is harmless, a record without its file would not be.
absl::StatusOr<std::shared_ptr<IoFile>> Overlay::DataFileForWriting(Inode& inode) {
  MutexLock lock(&inode.mutex);
  PBKFS_ASSIGN_OR_RETURN(std::shared_ptr<IoFile> data, DataFileLocked(inode));
  if (data != nullptr) return data;
  PBKFS_ASSIGN_OR_RETURN(auto created, diff_->CreateData(inode.ino));
  data = Counted(std::move(created));
  DataFileRecord record;
  record.ino = inode.ino;
  const auto sequence = diff_->log().Append(record);
  if (!sequence.ok()) {
    diff_->RemoveData(inode.ino).IgnoreError();
    return sequence.status();
  }
  inode.state.layout.Apply(record, *sequence);
  inode.changed = true;
  inode.data = data;
  stats().Add(IoCounter::kHandlesOpened);
  return data;
}

// The file of the image. It is opened without the inode's mutex, since that reads the catalog.
absl::StatusOr<std::shared_ptr<const LowerFile>> Overlay::LowerOf(Inode& inode) {
  {
    MutexLock lock(&inode.mutex);
    if (inode.lower != nullptr) {
      stats().Add(IoCounter::kHandleHits);
      return inode.lower;
    }
  }
  stats().Add(IoCounter::kHandleMisses);
  PBKFS_ASSIGN_OR_RETURN(std::shared_ptr<const LowerFile> lower, lower_->Open(inode.ino));
  MutexLock lock(&inode.mutex);
  if (inode.lower == nullptr) {
    inode.lower = std::move(lower);
    stats().Add(IoCounter::kHandlesOpened);
  }
  return inode.lower;
}

// ---- reading ----

// Reads an extent that lies within one kind of block. Bytes past the image's limit or the data
// file's end are zeros.
absl::Status Overlay::ReadExtent(Inode& inode, int64_t offset, absl::Span<uint8_t> out,
                                 bool from_data, int64_t lower_limit, ReadSources* sources) {
  size_t filled = 0;
  if (from_data) {
    PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<IoFile> data, DataFile(inode));
    if (data != nullptr) {
      PBKFS_ASSIGN_OR_RETURN(filled, data->Read(offset, out));
      sources->diff += filled;
    }
  } else if (offset < lower_limit) {
    filled = static_cast<size_t>(
        std::min<int64_t>(static_cast<int64_t>(out.size()), lower_limit - offset));
    PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const LowerFile> lower, LowerOf(inode));
    PBKFS_RETURN_IF_ERROR(lower->ReadAt(offset, out.subspan(0, filled), &stats()));
    sources->backup += filled;
  }
  std::fill(out.begin() + static_cast<ptrdiff_t>(filled), out.end(), uint8_t{0});
  sources->zero += out.size() - filled;
  return absl::OkStatus();
}

absl::StatusOr<size_t> Overlay::TryRead(Inode& inode, int64_t offset, absl::Span<uint8_t> out,
                                        uint64_t* destroyed, ReadSources* sources) {
  struct Extent {
    int64_t end;
    bool from_data;
  };
  absl::InlinedVector<Extent, 8> extents;
  int64_t end = 0;
  int64_t lower_limit = 0;
  {
    MutexLock lock(&inode.mutex);
    const FileLayout& layout = inode.state.layout;
    *destroyed = inode.destroyed;
    lower_limit = layout.lower_limit;
    end = std::min(layout.size, offset + static_cast<int64_t>(out.size()));
    for (int64_t at = offset; at < end;) {
      const int64_t block = at / kBlockSize;
      Extent extent{end, true};
      if (layout.Tracked(block)) {
        extent.from_data = layout.present.Contains(block);
        const int64_t last_tracked = (lower_limit - 1) / kBlockSize;
        const int64_t blocks = layout.present.CountSame(
            block, std::min((end - 1) / kBlockSize, last_tracked) - block + 1);
        extent.end = std::min(end, (block + blocks) * kBlockSize);
      }
      extents.push_back(extent);
      at = extent.end;
    }
  }
  int64_t at = offset;
  for (const Extent& extent : extents) {
    PBKFS_RETURN_IF_ERROR(ReadExtent(
        inode, at,
        out.subspan(static_cast<size_t>(at - offset), static_cast<size_t>(extent.end - at)),
        extent.from_data, lower_limit, sources));
    if (options_.materialize_on_read && !extent.from_data && at < lower_limit) {
      OfferFill(inode.ino, at, extent.end);
    }
    at = extent.end;
  }
  return static_cast<size_t>(at - offset);
}

absl::StatusOr<size_t> Overlay::Read(uint64_t ino, int64_t offset, absl::Span<uint8_t> out) {
  ReadSources sources;
  PBKFS_ASSIGN_OR_RETURN(const size_t count, ReadUncounted(ino, offset, out, &sources));
  if (sources.diff > 0) stats().Add(IoCounter::kReadBytesDiff, sources.diff);
  if (sources.backup > 0) stats().Add(IoCounter::kReadBytesBackup, sources.backup);
  if (sources.zero > 0) stats().Add(IoCounter::kReadBytesZero, sources.zero);
  return count;
}

absl::StatusOr<size_t> Overlay::ReadUncounted(uint64_t ino, int64_t offset, absl::Span<uint8_t> out,
                                              ReadSources* sources) {
  if (IsSideIno(ino)) {
    PBKFS_ASSIGN_OR_RETURN(const size_t count, side_.Read(ino, offset, out, &stats()));
    sources->backup = count;
    return count;
  }
  PBKFS_ASSIGN_OR_RETURN(const InodePtr inode, GetRegular(ino));
  if (offset < 0) return ErrnoError(EINVAL, "read at a negative offset");
  if (offset >= kMaxFileBytes) return 0;
  Ticket ticket = pending_.Draw(inode->pending, PendingRole::kReader,
                                BlocksOf(offset, static_cast<int64_t>(out.size())));
  ticket.Wait();
  while (true) {
    uint64_t destroyed = 0;
    *sources = {};
    absl::StatusOr<size_t> count = TryRead(*inode, offset, out, &destroyed, sources);
    // A truncation that came later may have taken bytes away under us; what was read may be neither
    // old nor new.
    MutexLock lock(&inode->mutex);
    if (inode->destroyed == destroyed) return count;
  }
}

// ---- writing ----

// Writes one range into the data file of an inode, whole blocks at a time: blocks of the image that
// are written for the first time are completed from it.
class FileWriter {
 public:
  FileWriter(Overlay& overlay, Inode& inode, IoFile& data, int64_t offset,
             absl::Span<const uint8_t> bytes)
      : overlay_(overlay),
        inode_(inode),
        data_(data),
        offset_(offset),
        end_(offset + static_cast<int64_t>(bytes.size())),
        bytes_(bytes),
        first_(offset / kBlockSize),
        last_((end_ - 1) / kBlockSize) {}

  absl::Status Run() {
    {
      MutexLock lock(&inode_.mutex);
      const FileLayout& layout = inode_.state.layout;
      size_ = layout.size;
      lower_limit_ = layout.lower_limit;
      head_missing_ = layout.Tracked(first_) && !layout.present.Contains(first_);
      tail_missing_ = layout.Tracked(last_) && !layout.present.Contains(last_);
      tracked_end_ = std::min(last_ + 1, (lower_limit_ + kBlockSize - 1) / kBlockSize);
      if (first_ < tracked_end_) {
        const int64_t tracked = tracked_end_ - first_;
        all_present_ = !head_missing_ && layout.present.CountSame(first_, tracked) == tracked;
      }
    }
    if (head_missing_) PBKFS_RETURN_IF_ERROR(Complete(first_ * kBlockSize, offset_));
    if (tail_missing_) {
      const int64_t block_end = (last_ + 1) * kBlockSize;
      PBKFS_RETURN_IF_ERROR(Complete(end_, std::min(block_end, std::max(size_, end_))));
    }
    PBKFS_RETURN_IF_ERROR(data_.Write(offset_, bytes_));
    return Record();
  }

 private:
  // Copies what the file shows in [begin, end), part of one block, into the data file.
  absl::Status Complete(int64_t begin, int64_t end) {
    if (begin >= end) return absl::OkStatus();
    std::array<uint8_t, kBlockSize> buffer{};
    const auto part = absl::MakeSpan(buffer).subspan(0, static_cast<size_t>(end - begin));
    const int64_t from_lower = std::min(end, lower_limit_) - begin;
    if (from_lower > 0) {
      PBKFS_ASSIGN_OR_RETURN(const auto lower, overlay_.LowerOf(inode_));
      PBKFS_RETURN_IF_ERROR(lower->ReadAt(begin, part.subspan(0, static_cast<size_t>(from_lower)),
                                          &overlay_.stats()));
      overlay_.stats().Add(IoCounter::kBlocksCopied);
      overlay_.stats().Add(IoCounter::kBytesCopied, static_cast<uint64_t>(from_lower));
    }
    return data_.Write(begin, part);
  }

  // Appends the record of the blocks that are new in the data file.
  absl::Status Record() {
    MutexLock lock(&inode_.mutex);
    if (first_ >= tracked_end_ || all_present_) return absl::OkStatus();
    PresentRecord record;
    record.ino = inode_.ino;
    record.first = first_;
    record.count = tracked_end_ - first_;
    PBKFS_ASSIGN_OR_RETURN(const uint64_t sequence, overlay_.diff_->log().Append(record));
    inode_.state.layout.Apply(record, sequence);
    return absl::OkStatus();
  }

  Overlay& overlay_;
  Inode& inode_;
  IoFile& data_;
  const int64_t offset_;
  const int64_t end_;
  const absl::Span<const uint8_t> bytes_;
  const int64_t first_;
  const int64_t last_;
  int64_t size_ = 0;
  int64_t lower_limit_ = 0;
  int64_t tracked_end_ = 0;  // Blocks below it may show the image.
  bool head_missing_ = false;
  bool tail_missing_ = false;
  bool all_present_ = false;
};

// Under the ticket of the range.
absl::Status Overlay::WriteLocked(Inode& inode, int64_t offset, absl::Span<const uint8_t> data) {
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<IoFile> file, DataFileForWriting(inode));
  int64_t old_size = 0;
  {
    MutexLock lock(&inode.mutex);
    PBKFS_RETURN_IF_ERROR(CheckUsable(inode));
    old_size = inode.state.layout.size;
    // Before the bytes: a fill that restores the data file's time must not put an older one there.
    inode.state.mtime = inode.state.ctime = NowNanos();
  }
  const absl::Status written = FileWriter(*this, inode, *file, offset, data).Run();
  const int64_t end = offset + static_cast<int64_t>(data.size());
  if (!written.ok()) {
    // An extension that was not acknowledged must not show.
    if (end > old_size) CutBack(inode, *file, old_size);
    return written;
  }
  stats().Add(IoCounter::kWrittenBytes, data.size());
  MutexLock lock(&inode.mutex);
  InodeState& state = inode.state;
  state.layout.size = std::max(state.layout.size, end);
  inode.size_hint.store(state.layout.size, std::memory_order_release);
  HintWriteback(inode, file, offset, end);
  return absl::OkStatus();
}

absl::Status Overlay::Write(uint64_t ino, int64_t offset, absl::Span<const uint8_t> data) {
  if (IsSideIno(ino)) return ErrnoError(EROFS, kSideName);
  PBKFS_RETURN_IF_ERROR(CheckWritable());
  PBKFS_ASSIGN_OR_RETURN(const InodePtr inode, GetRegular(ino));
  if (data.empty()) return absl::OkStatus();
  const auto length = static_cast<int64_t>(data.size());
  if (offset < 0 || offset > kMaxFileBytes - length) {
    return ErrnoError(EFBIG, absl::StrCat("write at offset ", offset));
  }
  PBKFS_RETURN_IF_ERROR(Repair(*inode));
  AwaitDescriptors(*inode);
  Ticket ticket = pending_.DrawWrite(inode->pending, BlocksOf(offset, length), offset + length,
                                     inode->size_hint);
  ticket.Wait();
  PBKFS_ASSIGN_OR_RETURN(const int64_t claimed, ClaimSpace(*inode, offset, length));
  absl::Status status = WriteLocked(*inode, offset, data);
  // Files that are gone may still take the space that is missing.
  if (IsNoSpace(status) && RemoveDoomed()) status = WriteLocked(*inode, offset, data);
  SettleSpace(*inode, claimed);
  // Also after a failure: a part may have been written.
  ListDirty(inode);
  return status;
}

// ---- sizes ----

absl::Status Overlay::Resize(const InodePtr& inode, int64_t size) {
  if (size < 0) return ErrnoError(EINVAL, "truncate to a negative size");
  if (size > kMaxFileBytes) return ErrnoError(EFBIG, absl::StrCat("truncate to ", size));
  PBKFS_RETURN_IF_ERROR(Repair(*inode));
  AwaitDescriptors(*inode);
  Ticket ticket = pending_.DrawResize(inode->pending, size, inode->size_hint);
  ticket.Wait();
  uint64_t sequence = 0;
  bool destroys = false;
  bool confirmed = false;
  {
    MutexLock lock(&inode->mutex);
    FileLayout& layout = inode->state.layout;
    PBKFS_RETURN_IF_ERROR(CheckUsable(*inode));
    destroys = size < layout.size && layout.has_data;
    confirmed = size < inode->ConfirmedSize();
    SizeRecord record;
    record.ino = inode->ino;
    record.size = size;
    record.lower_limit = std::min(layout.lower_limit, size);
    record.shrinks = destroys ? 1 : 0;
    record.time = NowNanos();
    PBKFS_ASSIGN_OR_RETURN(sequence, diff_->log().Append(record));
    layout.Apply(record, sequence);
    inode->state.mtime = inode->state.ctime = record.time;
    inode->changed = true;
    ++inode->destroyed;
    inode->size_hint.store(size, std::memory_order_release);
  }
  ListDirty(inode);
  if (!destroys) return absl::OkStatus();
  const absl::Status status = FinishDestruction(
      *inode, {sequence, confirmed, [size](IoFile& data) -> absl::Status {
                 PBKFS_ASSIGN_OR_RETURN(const struct stat attributes, data.Stat());
                 return attributes.st_size > size ? data.Truncate(size) : absl::OkStatus();
               }});
  SettleSpace(*inode, 0);
  return status;
}

// Zeros for [offset, offset + length), within the file's size, under its ticket.
absl::Status Overlay::PunchRange(Inode& inode, int64_t offset, int64_t length) {
  const int64_t end = offset + length;
  const int64_t first_whole = std::min(BlockCeil(offset), end);
  const int64_t last_whole = std::max(BlockFloor(end), first_whole);
  // The edges are ordinary writes of zeros: they complete their blocks.
  const auto zeros = absl::MakeConstSpan(kZeros);
  if (first_whole > offset) {
    PBKFS_RETURN_IF_ERROR(
        WriteLocked(inode, offset, zeros.subspan(0, static_cast<size_t>(first_whole - offset))));
  }
  if (end > last_whole) {
    PBKFS_RETURN_IF_ERROR(
        WriteLocked(inode, last_whole, zeros.subspan(0, static_cast<size_t>(end - last_whole))));
  }
  if (first_whole == last_whole) return absl::OkStatus();
  PBKFS_RETURN_IF_ERROR(DataFileForWriting(inode).status());
  PunchRecord record;
  record.ino = inode.ino;
  record.offset = first_whole;
  record.length = last_whole - first_whole;
  record.time = NowNanos();
  uint64_t sequence = 0;
  bool confirmed = false;
  {
    MutexLock lock(&inode.mutex);
    FileLayout& layout = inode.state.layout;
    PBKFS_RETURN_IF_ERROR(CheckUsable(inode));
    confirmed = first_whole < inode.ConfirmedSize();
    PBKFS_ASSIGN_OR_RETURN(sequence, diff_->log().Append(record));
    layout.Apply(record, sequence);
    inode.state.mtime = inode.state.ctime = record.time;
    ++inode.destroyed;
  }
  return FinishDestruction(inode, {sequence, confirmed, [record](IoFile& data) {
                                     return ZeroRange(data, record.offset, record.length);
                                   }});
}

// Within the file the data file is only given space: what the image shows there stays.
absl::Status Overlay::AllocateRange(Inode& inode, int64_t offset, int64_t length, bool extends) {
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<IoFile> data, DataFileForWriting(inode));
  int64_t old_size = 0;
  {
    MutexLock lock(&inode.mutex);
    PBKFS_RETURN_IF_ERROR(CheckUsable(inode));
    old_size = inode.state.layout.size;
    inode.state.mtime = inode.state.ctime = NowNanos();
  }
  const absl::Status status = data->Allocate(extends ? 0 : FALLOC_FL_KEEP_SIZE, offset, length);
  if (!status.ok()) {
    if (extends) CutBack(inode, *data, old_size);
    return status;
  }
  if (!extends) return absl::OkStatus();
  MutexLock lock(&inode.mutex);
  inode.state.layout.size = offset + length;
  inode.size_hint.store(offset + length, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status Overlay::Allocate(uint64_t ino, int mode, int64_t offset, int64_t length) {
  if (IsSideIno(ino)) return ErrnoError(EROFS, kSideName);
  PBKFS_RETURN_IF_ERROR(CheckWritable());
  PBKFS_ASSIGN_OR_RETURN(const InodePtr inode, GetRegular(ino));
  const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  const int kind = mode & ~FALLOC_FL_KEEP_SIZE;
  const bool zeroes = kind == FALLOC_FL_PUNCH_HOLE || kind == FALLOC_FL_ZERO_RANGE;
  if (kind != 0 && !zeroes) return ErrnoError(EOPNOTSUPP, absl::StrCat("fallocate mode ", mode));
  if (offset < 0 || length <= 0) return ErrnoError(EINVAL, "fallocate of an empty range");
  if (offset > kMaxFileBytes - length) return ErrnoError(EFBIG, "fallocate");
  PBKFS_RETURN_IF_ERROR(Repair(*inode));
  AwaitDescriptors(*inode);
  // One destruction of an inode at a time: the log knows only the last one that has no Cut.
  const ByteRange range = zeroes ? ByteRange{} : BlocksOf(offset, length);
  Ticket ticket = pending_.DrawWrite(inode->pending, range, offset + length, inode->size_hint);
  ticket.Wait();
  const int64_t old_size = AttributesOf(*inode).size;
  const int64_t end = offset + length;
  // A punch gives space back, but for its edges.
  int64_t claimed = 0;
  if (kind != FALLOC_FL_PUNCH_HOLE) {
    PBKFS_ASSIGN_OR_RETURN(claimed, ClaimSpace(*inode, offset, length));
  }
  absl::Status status;
  if (zeroes && offset < old_size) {
    status = PunchRange(*inode, offset, std::min(end, old_size) - offset);
  }
  if (status.ok() && kind != FALLOC_FL_PUNCH_HOLE) {
    status = AllocateRange(*inode, offset, length, !keep_size && end > old_size);
  }
  SettleSpace(*inode, claimed);
  ListDirty(inode);
  return status;
}

}  // namespace pbkfs
