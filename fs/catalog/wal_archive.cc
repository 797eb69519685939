#include "fs/catalog/wal_archive.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "fs/base/plain_path.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"
#include "fs/catalog/timeline_history.h"

namespace pbkfs {
namespace {

constexpr size_t kSegmentNameBytes = 24;
constexpr absl::string_view kHistorySuffix = ".history";

bool ParseUpperHex(absl::string_view text, uint32_t* value) {
  if (text.size() != 8) return false;
  for (const char c : text) {
    if ((c < '0' || c > '9') && (c < 'A' || c > 'F')) return false;
  }
  return absl::SimpleHexAtoi(text, value);
}

bool IsHistoryName(absl::string_view name) {
  uint32_t timeline = 0;
  return name.size() == 8 + kHistorySuffix.size() && absl::EndsWith(name, kHistorySuffix) &&
         ParseUpperHex(name.substr(0, 8), &timeline);
}

struct StoredForm {
  absl::string_view suffix;
  bool packed;
  bool partial;
};
// In the order of preference.
constexpr StoredForm kForms[] = {{".gz", true, false},
                                 {"", false, false},
                                 {".gz.partial", true, true},
                                 {".partial", false, true}};

absl::Status WrongLength(absl::string_view path, int64_t has, int64_t wanted) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt,
                     absl::StrCat(path, " has ", has, " bytes instead of ", wanted,
                                  "; put back a good copy of it in its place"));
}

absl::Status CheckRange(int64_t size, int64_t offset, size_t count) {
  if (offset >= 0 && offset <= size && static_cast<int64_t>(count) <= size - offset) {
    return absl::OkStatus();
  }
  return absl::OutOfRangeError(absl::StrCat("a read of ", count, " bytes at ", offset,
                                            " lies outside of the file's ", size, " bytes"));
}

// A file that is stored as it is; zeros follow up to `size`.
class StoredFile final : public LowerFile {
 public:
  StoredFile(OpenedFile file, std::string path, int64_t size)
      : file_(std::move(file)), path_(std::move(path)), size_(size) {}

  int64_t Size() const override { return size_; }
  absl::Status ReadAt(int64_t offset, absl::Span<uint8_t> out, IoStats*) const override {
    PBKFS_RETURN_IF_ERROR(CheckRange(size_, offset, out.size()));
    const int64_t left = std::max<int64_t>(file_.identity.size - offset, 0);
    const auto stored = static_cast<size_t>(std::min(left, static_cast<int64_t>(out.size())));
    const absl::Status status = ReadExactly(file_.fd.get(), offset, out.subspan(0, stored));
    if (!status.ok()) return Annotate(status, path_);
    std::fill(out.begin() + static_cast<ptrdiff_t>(stored), out.end(), 0);
    // Afterwards: bytes that changed while they were read are not served.
    struct stat st;
    if (fstat(file_.fd.get(), &st) != 0 || !(IdentityOf(st) == file_.identity)) {
      return ErrnoError(EIO, absl::StrCat(path_, " was changed while it was read"));
    }
    return absl::OkStatus();
  }

 private:
  const OpenedFile file_;
  const std::string path_;
  const int64_t size_;
};

class UnpackedFile final : public LowerFile {
 public:
  UnpackedFile(std::shared_ptr<const UnpackedSegment> segment, int64_t size)
      : segment_(std::move(segment)), size_(size) {}

  int64_t Size() const override { return size_; }
  absl::Status ReadAt(int64_t offset, absl::Span<uint8_t> out, IoStats*) const override {
    PBKFS_RETURN_IF_ERROR(CheckRange(size_, offset, out.size()));
    return ReadExactly(segment_->fd(), offset, out);
  }

 private:
  const std::shared_ptr<const UnpackedSegment> segment_;
  const int64_t size_;
};

std::vector<SegmentRun> ToRuns(std::vector<uint64_t> numbers) {
  std::sort(numbers.begin(), numbers.end());
  std::vector<SegmentRun> runs;
  for (const uint64_t number : numbers) {
    if (!runs.empty() && number <= runs.back().last + 1) {
      runs.back().last = number;
    } else {
      runs.push_back({number, number});
    }
  }
  return runs;
}

}  // namespace

std::optional<WalSegmentId> ParseWalSegmentName(absl::string_view name, uint32_t segment_bytes) {
  WalSegmentId id;
  uint32_t log = 0;
  uint32_t segment = 0;
  if (name.size() != kSegmentNameBytes || !ParseUpperHex(name.substr(0, 8), &id.timeline) ||
      !ParseUpperHex(name.substr(8, 8), &log) || !ParseUpperHex(name.substr(16), &segment)) {
    return std::nullopt;
  }
  const uint64_t per_log = (uint64_t{1} << 32) / segment_bytes;
  if (segment >= per_log) return std::nullopt;
  id.number = log * per_log + segment;
  return id;
}

absl::StatusOr<std::shared_ptr<const WalArchive>> WalArchive::Open(
    const std::string& store, const std::string& instance, uint32_t segment_bytes,
    std::shared_ptr<UnpackedSegments> unpacked) {
  if (segment_bytes < kMinWalSegmentBytes || segment_bytes > kMaxWalSegmentBytes) {
    return absl::InvalidArgumentError(absl::StrCat(segment_bytes, " is no size of a WAL segment"));
  }
  PBKFS_ASSIGN_OR_RETURN(const UniqueFd root, OpenPlainDirectory(store, O_RDONLY));
  std::shared_ptr<WalArchive> archive(new WalArchive);
  archive->path_ = absl::StrCat(store, "/wal/", instance);
  absl::StatusOr<UniqueFd> directory =
      OpenDirectoryBeneath(root.get(), absl::StrCat("wal/", instance));
  if (!directory.ok()) return Annotate(directory.status(), archive->path_);
  archive->directory_ = *std::move(directory);
  archive->segment_bytes_ = segment_bytes;
  archive->unpacked_ = std::move(unpacked);
  return std::shared_ptr<const WalArchive>(std::move(archive));
}

absl::StatusOr<ArchivedFile> WalArchive::Find(absl::string_view name) const {
  ArchivedFile found;
  found.segment = ParseWalSegmentName(name, segment_bytes_).has_value();
  if (!found.segment && !IsHistoryName(name)) {
    return absl::NotFoundError(absl::StrCat(name, " is not the name of archived WAL"));
  }
  for (const StoredForm& form : kForms) {
    if (!found.segment && !form.suffix.empty()) continue;
    found.stored_name = absl::StrCat(name, form.suffix);
    const absl::StatusOr<OpenedFile> file = OpenRegularBeneath(directory_.get(), found.stored_name);
    if (absl::IsNotFound(file.status())) continue;
    if (!file.ok()) return Annotate(file.status(), path_);
    found.identity = file->identity;
    found.packed = form.packed;
    found.partial = form.partial;
    found.size = found.segment ? int64_t{segment_bytes_} : file->identity.size;
    return found;
  }
  return absl::NotFoundError(absl::StrCat(name, " is not in ", path_));
}

absl::StatusOr<std::shared_ptr<const LowerFile>> WalArchive::Open(const ArchivedFile& file) const {
  const std::string path = absl::StrCat(path_, "/", file.stored_name);
  absl::StatusOr<OpenedFile> opened = OpenRegularBeneath(directory_.get(), file.stored_name);
  if (!opened.ok()) return Annotate(opened.status(), path_);
  if (!(opened->identity == file.identity)) {
    return ErrnoError(ESTALE, absl::StrCat(path, " was replaced"));
  }
  if (file.packed) {
    PBKFS_ASSIGN_OR_RETURN(std::shared_ptr<const UnpackedSegment> segment,
                           unpacked_->Get(*opened, path, file.size, file.partial));
    return std::make_shared<UnpackedFile>(std::move(segment), file.size);
  }
  const int64_t stored = opened->identity.size;
  if (stored > file.size || (stored < file.size && !file.partial)) {
    return WrongLength(path, stored, file.size);
  }
  return std::make_shared<StoredFile>(*std::move(opened), path, file.size);
}

absl::StatusOr<std::string> WalArchive::ReadHistory(uint32_t timeline) const {
  const std::string name = TimelineHistoryName(timeline);
  absl::StatusOr<OpenedFile> file = OpenRegularBeneath(directory_.get(), name);
  if (!file.ok()) return Annotate(file.status(), path_);
  absl::StatusOr<std::string> text = ReadWhole(*file, kMaxHistoryFileBytes);
  if (!text.ok()) return Annotate(text.status(), absl::StrCat(path_, "/", name));
  return text;
}

absl::StatusOr<std::map<uint32_t, std::vector<SegmentRun>>> WalArchive::ListSegments() const {
  UniqueFd fd(openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoError(errno, path_);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(fd.get()), closedir);
  if (stream == nullptr) return ErrnoError(errno, path_);
  fd.Release();
  std::map<uint32_t, std::vector<uint64_t>> numbers;
  size_t count = 0;
  while (true) {
    errno = 0;
    const struct dirent* entry = readdir(stream.get());
    if (entry == nullptr) break;
    if (++count > kMaxArchiveEntries) {
      return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt,
                         absl::StrCat(path_, " holds more than ", kMaxArchiveEntries, " files"));
    }
    const absl::string_view name(entry->d_name);
    const absl::string_view suffix = name.substr(std::min(name.size(), kSegmentNameBytes));
    const bool known = std::any_of(std::begin(kForms), std::end(kForms),
                                   [&](const StoredForm& form) { return form.suffix == suffix; });
    const auto id = ParseWalSegmentName(name.substr(0, kSegmentNameBytes), segment_bytes_);
    if (known && id.has_value()) numbers[id->timeline].push_back(id->number);
  }
  if (errno != 0) return ErrnoError(errno, path_);
  std::map<uint32_t, std::vector<SegmentRun>> runs;
  for (auto& [timeline, list] : numbers) runs[timeline] = ToRuns(std::move(list));
  return runs;
}

}  // namespace pbkfs
