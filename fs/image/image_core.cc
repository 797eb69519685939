#include "fs/image/image_core.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fs/base/bytes.h"
#include "fs/base/crc32c.h"
#include "fs/base/status.h"
#include "fs/catalog/beneath.h"
#include "fs/catalog/limits.h"
#include "fs/image/file_crc.h"
#include "fs/image/header_map.h"
#include "fs/image/limits.h"
#include "fs/image/stream_scan.h"

namespace pbkfs {
namespace {

constexpr char kControlPath[] = "global/pg_control";

absl::Status Mismatch(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt, what);
}

absl::Status VerifyControl(int fd, const FileEntry& entry) {
  if (entry.size > kPageBytes) return Mismatch("the file is longer than a pg_control can be");
  std::vector<uint8_t> bytes(static_cast<size_t>(entry.size));
  PBKFS_RETURN_IF_ERROR(ReadExactly(fd, 0, absl::MakeSpan(bytes)));
  if (IsControlStructWithCrc(bytes, entry.crc)) return absl::OkStatus();
  return Mismatch("the CRC inside the file does not match its content and the list of files");
}

absl::Status VerifyContent(int fd, const FileEntry& entry, const FormatRules& rules) {
  if (entry.path == kControlPath && entry.external_dir == 0 && rules.control_inner_crc) {
    return VerifyControl(fd, entry);
  }
  posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  std::vector<uint8_t> buffer(
      static_cast<size_t>(std::min<int64_t>(entry.size, kVerifyBufferBytes)));
  FileCrc crc(rules);
  for (int64_t offset = 0; offset < entry.size;) {
    const auto count = std::min<int64_t>(entry.size - offset, static_cast<int64_t>(buffer.size()));
    const auto part = absl::MakeSpan(buffer).first(static_cast<size_t>(count));
    PBKFS_RETURN_IF_ERROR(ReadExactly(fd, offset, part));
    crc.Update(part);
    offset += count;
  }
  if (crc.value() == entry.crc) return absl::OkStatus();
  return Mismatch(absl::StrCat("the content has CRC ", crc.value(), ", but the list of files says ",
                               entry.crc));
}

// Whether nothing follows the struct that ends with the CRC at `crc_offset`. The compiler may have
// padded the struct to 8 bytes; what stands there means nothing.
bool IsZeroFrom(absl::Span<const uint8_t> bytes, size_t crc_offset) {
  const size_t end = std::min((crc_offset + 4 + 7) / 8 * 8, bytes.size());
  return std::all_of(bytes.begin() + static_cast<ptrdiff_t>(end), bytes.end(),
                     [](uint8_t byte) { return byte == 0; });
}

// What a scan of a stored file depends on.
IndexStoreKey ScanKey(const Chain& chain, const ChainMember& owner, const FileEntry& entry,
                      const FileIdentity& identity) {
  const BackupControl& control = owner.control;
  IndexStoreKey key;
  key.name =
      absl::StrCat(chain.instance->config().system_identifier, "/", owner.id, "/", entry.path);
  key.validity = absl::StrJoin(
      {static_cast<uint64_t>(identity.device), static_cast<uint64_t>(identity.inode),
       static_cast<uint64_t>(identity.size), static_cast<uint64_t>(identity.modified.tv_sec),
       static_cast<uint64_t>(identity.modified.tv_nsec), static_cast<uint64_t>(entry.size),
       uint64_t{entry.crc}, static_cast<uint64_t>(entry.compress_alg),
       static_cast<uint64_t>(entry.segno), uint64_t{control.program_version}, control.start_lsn,
       control.stop_lsn, uint64_t{control.checksum_version}, uint64_t{control.content_crc}},
      ",");
  return key;
}

}  // namespace

bool IsControlStructWithCrc(absl::Span<const uint8_t> bytes, uint32_t crc) {
  uint32_t so_far = 0;
  for (size_t at = 0; at + 4 <= std::min(bytes.size(), kMaxControlStructBytes); at += 4) {
    // The field follows the struct that it protects; where it stands depends on the major version.
    const auto word = LoadLittleEndian<uint32_t>(bytes.data() + at);
    if (at > 0 && word == crc && so_far == crc) return IsZeroFrom(bytes, at);
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
  const auto blocks = [this](size_t member, const FileEntry& entry) {
    return BlocksOf(member, entry);
  };
  return caches_->indexes.Get(
      id_, ino, [&]() { return BuildPageIndex(chain_->files.HistoryOf(tip_entry), blocks); });
}

absl::StatusOr<StoredBlocks> ImageCore::BlocksOf(size_t member, const FileEntry& entry) const {
  absl::Status map_status;
  if (entry.n_headers > 0) {
    absl::StatusOr<StoredFiles::FilePtr> map =
        caches_->stored_files.Open(id_, *chain_, member, nullptr);
    map_status = map.status();
    if (map_status.ok()) {
      absl::StatusOr<StoredBlocks> blocks = ReadHeaderMap((*map)->fd.get(), entry);
      if (blocks.ok()) return blocks;
      map_status = blocks.status();
    }
    // A catalog that changed is no reason to read more of it.
    if (absl::IsUnavailable(map_status)) return map_status;
    WarnAboutMap(member, entry, map_status);
  }
  absl::StatusOr<StoredBlocks> blocks = ScanOf(member, entry);
  if (!blocks.ok()) return Annotate(blocks.status(), Describe(member, entry.path));
  if (chain_->members[member]->format.lengths_cut_files && entry.n_blocks >= 0) {
    // Such programs stored blocks beyond the length that they then cut the file to.
    std::vector<PageRecord>& records = blocks->records;
    while (!records.empty() && int64_t{records.back().block} >= entry.n_blocks) records.pop_back();
  }
  return blocks;
}

absl::StatusOr<StoredBlocks> ImageCore::ScanOf(size_t member, const FileEntry& entry) const {
  const ChainMember& owner = *chain_->members[member];
  PBKFS_ASSIGN_OR_RETURN(const StoredFiles::FilePtr file, OpenStream(member, entry));
  const IndexStoreKey key = ScanKey(*chain_, owner, entry, file->identity);
  if (std::optional<StoredBlocks> known = caches_->index_store.Find(key)) return *std::move(known);
  posix_fadvise(file->fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  const auto read = [&file](int64_t offset, absl::Span<uint8_t> out) {
    return ReadExactly(file->fd.get(), offset, out);
  };
  PBKFS_ASSIGN_OR_RETURN(StoredBlocks blocks, ScanStream(read, entry, owner.format,
                                                         owner.control.checksum_version != 0));
  caches_->CountScan();
  caches_->index_store.Put(key, blocks);
  return blocks;
}

void ImageCore::WarnAboutMap(size_t member, const FileEntry& entry,
                             const absl::Status& cause) const {
  {
    MutexLock lock(&mutex_);
    if (!warned_.insert(&entry).second) return;
  }
  spdlog::warn("{}: {}; its blocks are found by reading the whole stored file",
               Describe(member, entry.path), std::string(cause.message()));
}

absl::StatusOr<StoredFiles::FilePtr> ImageCore::OpenStream(size_t member,
                                                           const FileEntry& entry) const {
  PBKFS_ASSIGN_OR_RETURN(StoredFiles::FilePtr file,
                         caches_->stored_files.Open(id_, *chain_, member, &entry));
  if (file->verified.load(std::memory_order_acquire)) return file;
  const uint64_t identity = absl::Hash<FileIdentity>()(file->identity);
  bool is_other = false;
  {
    MutexLock lock(&mutex_);
    is_other = streams_.try_emplace(&entry, identity).first->second != identity;
  }
  // Pages are checked one by one. That another file stands where one was read before, though its
  // backup did not change, is reason enough to check all of it.
  if (is_other) {
    PBKFS_RETURN_IF_ERROR(VerifyContent(file->fd.get(), entry, chain_->members[member]->format));
    MutexLock lock(&mutex_);
    streams_[&entry] = identity;
  }
  file->verified.store(true, std::memory_order_release);
  return file;
}

absl::StatusOr<StoredFiles::FilePtr> ImageCore::OpenCopy(size_t member,
                                                         const FileEntry& entry) const {
  PBKFS_ASSIGN_OR_RETURN(StoredFiles::FilePtr file,
                         caches_->stored_files.Open(id_, *chain_, member, &entry));
  if (file->verified.load(std::memory_order_acquire)) return file;
  {
    MutexLock lock(&mutex_);
    const auto known = verified_.find(&entry);
    if (known != verified_.end() && known->second == file->identity) {
      file->verified.store(true, std::memory_order_release);
      return file;
    }
  }
  PBKFS_RETURN_IF_ERROR(VerifyContent(file->fd.get(), entry, chain_->members[member]->format));
  MutexLock lock(&mutex_);
  verified_[&entry] = file->identity;
  file->verified.store(true, std::memory_order_release);
  return file;
}

}  // namespace pbkfs
