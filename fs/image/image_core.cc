#include "fs/image/image_core.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fs/base/bytes.h"
#include "fs/base/crc32c.h"
#include "fs/base/status.h"
#include "fs/catalog/beneath.h"
#include "fs/image/header_map.h"
#include "fs/image/limits.h"

namespace pbkfs {
namespace {

constexpr char kControlPath[] = "global/pg_control";

absl::Status Mismatch(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt, what);
}

absl::Status VerifyControl(int fd, const FileEntry& entry) {
  std::vector<uint8_t> bytes(
      static_cast<size_t>(std::min<int64_t>(entry.size, kMaxControlStructBytes)));
  PBKFS_RETURN_IF_ERROR(ReadExactly(fd, 0, absl::MakeSpan(bytes)));
  if (IsControlStructWithCrc(bytes, entry.crc)) return absl::OkStatus();
  return Mismatch("the CRC inside the file does not match its content and the list of files");
}

absl::Status VerifyContent(int fd, const FileEntry& entry) {
  if (entry.path == kControlPath) return VerifyControl(fd, entry);
  posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  std::vector<uint8_t> buffer(
      static_cast<size_t>(std::min<int64_t>(entry.size, kVerifyBufferBytes)));
  uint32_t crc = 0;
  for (int64_t offset = 0; offset < entry.size;) {
    const auto count = std::min<int64_t>(entry.size - offset, static_cast<int64_t>(buffer.size()));
    const auto part = absl::MakeSpan(buffer).first(static_cast<size_t>(count));
    PBKFS_RETURN_IF_ERROR(ReadExactly(fd, offset, part));
    crc = Crc32c(crc, part.data(), part.size());
    offset += count;
  }
  if (crc == entry.crc) return absl::OkStatus();
  return Mismatch(
      absl::StrCat("the content has CRC ", crc, ", but the list of files says ", entry.crc));
}

}  // namespace

bool IsControlStructWithCrc(absl::Span<const uint8_t> bytes, uint32_t crc) {
  uint32_t so_far = 0;
  for (size_t at = 0; at + 4 <= std::min(bytes.size(), kMaxControlStructBytes); at += 4) {
    // The field follows the struct that it protects; where it stands depends on the major version.
    const auto word = LoadLittleEndian<uint32_t>(bytes.data() + at);
    if (at > 0 && word == crc && so_far == crc) return true;
    so_far = Crc32c(so_far, bytes.data() + at, 4);
  }
  return false;
}

ImageCore::ImageCore(std::shared_ptr<const Chain> chain, std::shared_ptr<SharedCaches> caches)
    : chain_(std::move(chain)), caches_(std::move(caches)), id_(caches_->NextImageId()) {}

ImageCore::~ImageCore() { caches_->Forget(id_); }

std::string ImageCore::Describe(size_t member, absl::string_view path) const {
  return absl::StrCat("file '", path, "' of backup ", chain_->members[member]->id);
}

absl::StatusOr<std::shared_ptr<const PageIndex>> ImageCore::IndexOf(
    LowerIno ino, const FileEntry& tip_entry) const {
  const auto records = [this](size_t member,
                              const FileEntry& entry) -> absl::StatusOr<std::vector<PageRecord>> {
    const std::string where = Describe(member, entry.path);
    if (entry.n_headers == 0) {
      return Mismatch(absl::StrCat(where, ": the list of files names no page headers for it"));
    }
    absl::StatusOr<StoredFiles::FilePtr> map =
        caches_->stored_files.Open(id_, *chain_, member, nullptr);
    if (!map.ok()) return Annotate(map.status(), where);
    absl::StatusOr<std::vector<PageRecord>> result = ReadHeaderMap((*map)->fd.get(), entry);
    if (!result.ok()) return Annotate(result.status(), where);
    return result;
  };
  return caches_->indexes.Get(
      id_, ino, [&]() { return BuildPageIndex(HistoryOf(*chain_, tip_entry), records); });
}

absl::StatusOr<StoredFiles::FilePtr> ImageCore::OpenStream(size_t member,
                                                           const FileEntry& entry) const {
  return caches_->stored_files.Open(id_, *chain_, member, &entry);
}

absl::StatusOr<StoredFiles::FilePtr> ImageCore::OpenCopy(LowerIno ino, size_t member,
                                                         const FileEntry& entry) const {
  PBKFS_ASSIGN_OR_RETURN(StoredFiles::FilePtr file,
                         caches_->stored_files.Open(id_, *chain_, member, &entry));
  if (file->verified.load(std::memory_order_acquire)) return file;
  {
    MutexLock lock(&mutex_);
    const auto known = verified_.find(ino);
    if (known != verified_.end() && known->second == file->identity) {
      file->verified.store(true, std::memory_order_release);
      return file;
    }
  }
  PBKFS_RETURN_IF_ERROR(VerifyContent(file->fd.get(), entry));
  MutexLock lock(&mutex_);
  verified_[ino] = file->identity;
  file->verified.store(true, std::memory_order_release);
  return file;
}

}  // namespace pbkfs
