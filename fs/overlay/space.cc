// A full disk, and a diff with a limit: growth is refused before it begins, everything else goes
// on, and space that comes back is used.
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/overlay/block_math.h"
#include "fs/overlay/overlay.h"

namespace pbkfs {
namespace {

// Copies of what was read leave this part of the space, at most a GiB, to those who write.
constexpr int64_t kFillShare = 16;
constexpr int64_t kMaxFillReserve = int64_t{1} << 30;

}  // namespace

absl::StatusOr<struct statvfs> Overlay::FileSystem() {
  PBKFS_ASSIGN_OR_RETURN(struct statvfs result, diff_->FileSystem());
  if (!space_.limited()) return result;
  const auto units = [&result](int64_t bytes) {
    return static_cast<fsblkcnt_t>(bytes) / result.f_frsize;
  };
  const fsblkcnt_t left = units(space_.Left(diff_->log().bytes()));
  result.f_blocks = std::min(result.f_blocks, units(space_.limit()));
  result.f_bfree = std::min(result.f_bfree, left);
  result.f_bavail = std::min(result.f_bavail, left);
  return result;
}

// Bytes of [offset, end) that have no place in the data file yet. A range that was allocated and
// not written counts.
absl::StatusOr<int64_t> Overlay::GrowthOf(Inode& inode, int64_t offset, int64_t end) {
  std::shared_ptr<IoFile> data;
  {
    MutexLock lock(&inode.mutex);
    PBKFS_ASSIGN_OR_RETURN(data, DataFileLocked(inode));
  }
  if (data == nullptr) return end - offset;
  int64_t growth = 0;
  for (int64_t at = offset; at < end;) {
    PBKFS_ASSIGN_OR_RETURN(int64_t found, data->Seek(at, SEEK_DATA));
    if (found < 0 || found > end) found = end;
    growth += found - at;
    if (found == end) break;
    PBKFS_ASSIGN_OR_RETURN(at, data->Seek(found, SEEK_HOLE));
    if (at < 0) at = end;
  }
  return growth;
}

// Takes what a change of [offset, offset + length) may need from the budget. Returns what
// SettleSpace must give back.
absl::StatusOr<int64_t> Overlay::ClaimSpace(Inode& inode, int64_t offset, int64_t length) {
  if (!space_.limited()) return 0;
  const int64_t begin = BlockFloor(offset);
  const int64_t end = BlockCeil(offset + length);
  if (space_.Take(end - begin, diff_->log().bytes())) return end - begin;
  PBKFS_ASSIGN_OR_RETURN(const int64_t growth, GrowthOf(inode, begin, end));
  if (growth == 0) return 0;
  if (space_.Take(growth, diff_->log().bytes())) return growth;
  RemoveDoomed();
  if (space_.Take(growth, diff_->log().bytes())) return growth;
  return ErrnoError(ENOSPC, absl::StrCat("the diff ", diff_->path(), " has reached its limit of ",
                                         space_.limit(), " bytes"));
}

// What the data file takes now is put in the place of `claimed`.
void Overlay::SettleSpace(Inode& inode, int64_t claimed) {
  if (!space_.limited()) return;
  MutexLock lock(&inode.mutex);
  const auto data = DataFileLocked(inode);
  int64_t taken = inode.space_taken;
  if (data.ok() && *data != nullptr) {
    const auto attributes = (*data)->Stat();
    if (attributes.ok()) taken = attributes->st_blocks * int64_t{512};
  }
  space_.Adjust(taken - inode.space_taken - claimed);
  inode.space_taken = taken;
}

// For a change that adds a record and no data.
absl::Status Overlay::CheckSpaceForRecord() {
  if (!space_.limited() || space_.Left(diff_->log().bytes()) > 0) return absl::OkStatus();
  RemoveDoomed();
  if (space_.Left(diff_->log().bytes()) > 0) return absl::OkStatus();
  return ErrnoError(ENOSPC, absl::StrCat("the diff ", diff_->path(), " has reached its limit of ",
                                         space_.limit(), " bytes"));
}

// File systems take space back that they had put aside for a file that grew. Near the limit every
// data file is measured again.
void Overlay::MeasureSpace() {
  if (!space_.limited() || space_.Left(diff_->log().bytes()) > space_.limit() / kFillShare) return;
  for (const InodePtr& inode : inodes_.All()) {
    SettleSpace(*inode, 0);
    MutexLock lock(&inode->mutex);
    DropIdleFiles(*inode);
  }
}

// Whether a copy of what was read may take `bytes`.
bool Overlay::RoomForFill(int64_t bytes) {
  if (space_.limited() && space_.Left(diff_->log().bytes()) - bytes < space_.limit() / kFillShare) {
    return false;
  }
  const auto below = diff_->FileSystem();
  if (!below.ok()) return false;
  const auto unit = static_cast<int64_t>(below->f_frsize);
  const int64_t reserve =
      std::min(static_cast<int64_t>(below->f_blocks) * unit / kFillShare, kMaxFillReserve);
  return static_cast<int64_t>(below->f_bavail) * unit - bytes >= reserve;
}

}  // namespace pbkfs
