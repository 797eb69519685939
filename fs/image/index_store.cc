#include "fs/image/index_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "fs/base/bytes.h"
#include "fs/base/crc32c.h"
#include "fs/base/sha256.h"
#include "fs/base/status.h"
#include "fs/catalog/beneath.h"
#include "fs/catalog/limits.h"
#include "fs/image/limits.h"

namespace pbkfs {
namespace {

constexpr absl::string_view kMagic = "PBKFSIX";
constexpr uint8_t kFormatVersion = 1;
constexpr absl::string_view kSuffix = ".index";
constexpr absl::string_view kTemporarySuffix = ".tmp";
// Magic and version, key length, cut_at, record count.
constexpr size_t kHeadBytes = 8 + 4 + 8 + 4;
constexpr size_t kRecordBytes = 12;
constexpr size_t kCrcBytes = 4;

template <typename T>
void Append(T value, std::string& bytes) {
  char raw[sizeof(T)];
  StoreLittleEndian(value, raw);
  bytes.append(raw, sizeof(T));
}

std::string KeyText(const IndexStoreKey& key) { return absl::StrCat(key.name, "\n", key.validity); }

// A name that no path of a catalog can influence beyond its bits.
std::string FileName(const IndexStoreKey& key) {
  Sha256 hash;
  hash.Update(key.name);
  return absl::StrCat(hash.FinishHex().substr(0, 40), kSuffix);
}

// What a scan can't have found must not come from a damaged file either, CRC or not.
bool IsPossible(const StoredBlocks& blocks) {
  int64_t previous_block = -1;
  int64_t free = 0;
  for (const PageRecord& record : blocks.records) {
    if (record.block <= previous_block || record.block >= kSegmentBlocks) return false;
    if (record.position < free || record.length < 1 || record.length > kPageBytes) return false;
    previous_block = record.block;
    free = int64_t{record.position} + kRecordHeaderBytes + record.length;
    if (free > kMaxPageStreamBytes) return false;
  }
  return blocks.cut_at >= -1 && blocks.cut_at <= kSegmentBlocks;
}

struct Stored {
  struct timespec modified;
  int64_t bytes;
  std::string name;
};

// All entries; what an interrupted write left behind is removed.
std::vector<Stored> ListEntries(int directory) {
  std::vector<Stored> entries;
  UniqueFd fd(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return entries;
  std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(fd.get()), closedir);
  if (stream == nullptr) return entries;
  fd.Release();
  while (const struct dirent* entry = readdir(stream.get())) {
    const absl::string_view name = entry->d_name;
    struct stat st;
    if (!absl::EndsWith(name, kSuffix)) continue;
    if (fstatat(directory, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (S_ISREG(st.st_mode)) entries.push_back({st.st_mtim, st.st_size, std::string(name)});
  }
  return entries;
}

void RemoveTemporaries(int directory) {
  UniqueFd fd(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return;
  std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(fd.get()), closedir);
  if (stream == nullptr) return;
  fd.Release();
  while (const struct dirent* entry = readdir(stream.get())) {
    if (absl::EndsWith(entry->d_name, kTemporarySuffix)) unlinkat(directory, entry->d_name, 0);
  }
}

}  // namespace

std::string EncodeIndexEntry(const IndexStoreKey& key, const StoredBlocks& blocks) {
  const std::string key_text = KeyText(key);
  std::string bytes(kMagic);
  bytes.reserve(kHeadBytes + key_text.size() + blocks.records.size() * kRecordBytes + kCrcBytes);
  Append(kFormatVersion, bytes);
  Append(static_cast<uint32_t>(key_text.size()), bytes);
  Append(blocks.cut_at, bytes);
  Append(static_cast<uint32_t>(blocks.records.size()), bytes);
  bytes += key_text;
  for (const PageRecord& record : blocks.records) {
    Append(record.block, bytes);
    Append(record.position, bytes);
    Append(record.length, bytes);
    Append(record.checksum, bytes);
  }
  Append(Crc32c(bytes.data(), bytes.size()), bytes);
  return bytes;
}

std::optional<StoredBlocks> DecodeIndexEntry(absl::Span<const uint8_t> bytes,
                                             const IndexStoreKey& key) {
  const std::string key_text = KeyText(key);
  if (bytes.size() < kHeadBytes + key_text.size() + kCrcBytes) return std::nullopt;
  const auto content = bytes.first(bytes.size() - kCrcBytes);
  if (LoadLittleEndian<uint32_t>(content.data() + content.size()) !=
      Crc32c(content.data(), content.size())) {
    return std::nullopt;
  }
  const uint8_t* at = content.data();
  const absl::string_view magic(reinterpret_cast<const char*>(at), kMagic.size());
  if (magic != kMagic || at[kMagic.size()] != kFormatVersion) return std::nullopt;
  const auto key_bytes = LoadLittleEndian<uint32_t>(at + 8);
  const auto count = LoadLittleEndian<uint32_t>(at + 20);
  if (key_bytes != key_text.size() || count > static_cast<uint32_t>(kSegmentBlocks) ||
      content.size() != kHeadBytes + key_text.size() + count * kRecordBytes) {
    return std::nullopt;
  }
  if (absl::string_view(reinterpret_cast<const char*>(at) + kHeadBytes, key_bytes) != key_text) {
    return std::nullopt;
  }
  StoredBlocks blocks;
  blocks.cut_at = LoadLittleEndian<int64_t>(at + 12);
  blocks.records.resize(count);
  at += kHeadBytes + key_text.size();
  for (PageRecord& record : blocks.records) {
    record = {LoadLittleEndian<uint32_t>(at), LoadLittleEndian<uint32_t>(at + 4),
              LoadLittleEndian<uint16_t>(at + 8), LoadLittleEndian<uint16_t>(at + 10)};
    at += kRecordBytes;
  }
  if (!IsPossible(blocks)) return std::nullopt;
  return blocks;
}

IndexStore::IndexStore(const std::string& directory, int64_t budget_bytes)
    : path_(directory), budget_bytes_(budget_bytes) {
  if (directory.empty() || budget_bytes <= 0) return;
  if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    spdlog::warn("{}; scans of old backups are repeated after each start",
                 std::string(ErrnoError(errno, absl::StrCat("cannot make ", directory)).message()));
    return;
  }
  directory_ = UniqueFd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory_.valid()) {
    spdlog::warn("{}; scans of old backups are repeated after each start",
                 std::string(ErrnoError(errno, absl::StrCat("cannot open ", directory)).message()));
    return;
  }
  RemoveTemporaries(directory_.get());
  MutexLock lock(&mutex_);
  for (const Stored& entry : ListEntries(directory_.get())) bytes_ += entry.bytes;
  Shrink();
}

std::optional<StoredBlocks> IndexStore::Find(const IndexStoreKey& key) {
  if (!directory_.valid()) return std::nullopt;
  const std::string name = FileName(key);
  const absl::StatusOr<OpenedFile> file = OpenRegularBeneath(directory_.get(), name);
  if (!file.ok()) return std::nullopt;
  const absl::StatusOr<std::string> bytes = ReadWhole(*file, kMaxIndexFileBytes);
  if (!bytes.ok()) return std::nullopt;
  std::optional<StoredBlocks> blocks = DecodeIndexEntry(
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(bytes->data()), bytes->size()), key);
  // Its time stamp tells who was used last; losing that only makes the choice worse.
  if (blocks.has_value()) utimensat(directory_.get(), name.c_str(), nullptr, 0);
  return blocks;
}

void IndexStore::Put(const IndexStoreKey& key, const StoredBlocks& blocks) {
  if (!directory_.valid()) return;
  const std::string bytes = EncodeIndexEntry(key, blocks);
  const auto size = static_cast<int64_t>(bytes.size());
  if (size > budget_bytes_) return;
  const std::string name = FileName(key);
  MutexLock lock(&mutex_);
  struct stat old;
  if (fstatat(directory_.get(), name.c_str(), &old, AT_SYMLINK_NOFOLLOW) != 0) old.st_size = 0;
  const absl::Status status = Write(name, bytes);
  if (status.ok()) {
    bytes_ += size - old.st_size;
    Shrink();
  } else if (!warned_) {
    warned_ = true;
    spdlog::warn("{}: {}; scans of old backups may be repeated after the next start", path_,
                 std::string(status.message()));
  }
}

// No sync: after a crash the CRC tells a file that is not whole.
absl::Status IndexStore::Write(const std::string& name, absl::string_view bytes) {
  const std::string temporary =
      absl::StrCat(next_temporary_.fetch_add(1, std::memory_order_relaxed), kTemporarySuffix);
  const int directory = directory_.get();
  UniqueFd fd(openat(directory, temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoError(errno, absl::StrCat("cannot create ", temporary));
  absl::Status status;
  while (!bytes.empty() && status.ok()) {
    const ssize_t count = write(fd.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      status = ErrnoError(count < 0 ? errno : EIO, absl::StrCat("cannot write ", temporary));
    } else {
      bytes.remove_prefix(static_cast<size_t>(count));
    }
  }
  if (status.ok() && renameat(directory, temporary.c_str(), directory, name.c_str()) != 0) {
    status = ErrnoError(errno, absl::StrCat("cannot rename ", temporary));
  }
  if (!status.ok()) unlinkat(directory, temporary.c_str(), 0);
  return status;
}

void IndexStore::Shrink() {
  if (bytes_ <= budget_bytes_) return;
  std::vector<Stored> entries = ListEntries(directory_.get());
  std::sort(entries.begin(), entries.end(), [](const Stored& a, const Stored& b) {
    return std::tie(a.modified.tv_sec, a.modified.tv_nsec, a.name) <
           std::tie(b.modified.tv_sec, b.modified.tv_nsec, b.name);
  });
  bytes_ = 0;
  for (const Stored& entry : entries) bytes_ += entry.bytes;
  for (const Stored& entry : entries) {
    if (bytes_ <= budget_bytes_) return;
    if (unlinkat(directory_.get(), entry.name.c_str(), 0) == 0) bytes_ -= entry.bytes;
  }
}

int64_t IndexStore::Bytes() const {
  MutexLock lock(&mutex_);
  return bytes_;
}

}  // namespace pbkfs
