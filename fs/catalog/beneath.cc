#include "fs/catalog/beneath.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

absl::StatusOr<UniqueFd> OpenBeneath(int directory, absl::string_view path, int flags) {
  struct open_how how = {};
  how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC | O_NOCTTY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  const std::string name(path);
  while (true) {
    const long fd = syscall(SYS_openat2, directory, name.c_str(), &how, sizeof(how));
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    // EAGAIN: a rename elsewhere made the kernel unsure of "..", which safe paths do not have.
    if (errno == EINTR || errno == EAGAIN) continue;
    return ErrnoError(errno, absl::StrCat("cannot open ", path));
  }
}

absl::Status CorruptFile(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt, what);
}

}  // namespace

bool FileIdentity::operator==(const FileIdentity& other) const {
  return device == other.device && inode == other.inode && size == other.size &&
         modified.tv_sec == other.modified.tv_sec && modified.tv_nsec == other.modified.tv_nsec;
}

FileIdentity IdentityOf(const struct stat& st) {
  return {st.st_dev, st.st_ino, st.st_size, st.st_mtim};
}

absl::StatusOr<UniqueFd> OpenDirectoryBeneath(int directory, absl::string_view path) {
  return OpenBeneath(directory, path, O_RDONLY | O_DIRECTORY);
}

absl::StatusOr<OpenedFile> OpenRegularBeneath(int directory, absl::string_view path) {
  OpenedFile file;
  PBKFS_ASSIGN_OR_RETURN(file.fd, OpenBeneath(directory, path, O_RDONLY | O_NONBLOCK));
  struct stat st;
  if (fstat(file.fd.get(), &st) != 0) return ErrnoError(errno, absl::StrCat("cannot stat ", path));
  if (!S_ISREG(st.st_mode)) return CorruptFile(absl::StrCat(path, " is not a regular file"));
  file.identity = IdentityOf(st);
  return file;
}

absl::StatusOr<std::string> ReadWhole(const OpenedFile& file, size_t limit) {
  std::string text;
  constexpr size_t kChunkBytes = 1 << 20;
  while (true) {
    const size_t have = text.size();
    if (have > limit) return CorruptFile(absl::StrCat("the file has more than ", limit, " bytes"));
    // Grows with what is really there: a size that fstat claims is not trusted with memory.
    text.resize(have + std::min(kChunkBytes, limit + 1 - have));
    const ssize_t count =
        pread(file.fd.get(), text.data() + have, text.size() - have, static_cast<off_t>(have));
    if (count < 0 && errno != EINTR) return ErrnoError(errno, "cannot read");
    text.resize(have + static_cast<size_t>(std::max<ssize_t>(count, 0)));
    if (count == 0) return text;
  }
}

absl::Status ReadInPieces(const OpenedFile& file, size_t limit,
                          absl::FunctionRef<void(absl::string_view)> take) {
  constexpr size_t kPieceBytes = 256 << 10;
  std::vector<char> piece(kPieceBytes);
  size_t done = 0;
  while (true) {
    const ssize_t count =
        pread(file.fd.get(), piece.data(), piece.size(), static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoError(errno, "cannot read");
    if (count == 0) return absl::OkStatus();
    done += static_cast<size_t>(count);
    if (done > limit) return CorruptFile(absl::StrCat("the file has more than ", limit, " bytes"));
    take(absl::string_view(piece.data(), static_cast<size_t>(count)));
  }
}

absl::Status ReadExactly(int fd, int64_t offset, absl::Span<uint8_t> out) {
  while (!out.empty()) {
    const ssize_t count = pread(fd, out.data(), out.size(), offset);
    if (count < 0) {
      if (errno == EINTR) continue;
      return ErrnoError(errno, absl::StrCat("cannot read at offset ", offset));
    }
    if (count == 0) return ErrnoError(EIO, absl::StrCat("the file ends at offset ", offset));
    offset += count;
    out.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ListDirectories(int directory) {
  // A new open file description: the position of the caller's descriptor is shared by all threads.
  UniqueFd fd(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoError(errno, "cannot open the directory");
  std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(fd.get()), closedir);
  if (stream == nullptr) return ErrnoError(errno, "cannot list the directory");
  fd.Release();

  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const struct dirent* entry = readdir(stream.get());
    if (entry == nullptr) break;
    if (entry->d_name[0] == '.') continue;
    struct stat st;
    if (entry->d_type != DT_DIR &&
        (entry->d_type != DT_UNKNOWN ||
         fstatat(directory, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
         !S_ISDIR(st.st_mode))) {
      continue;
    }
    if (names.size() == kMaxDirectoryEntries) {
      return CorruptFile(absl::StrCat("more than ", kMaxDirectoryEntries, " directories"));
    }
    names.emplace_back(entry->d_name);
  }
  if (errno != 0) return ErrnoError(errno, "cannot list the directory");
  std::sort(names.begin(), names.end());
  return names;
}

bool IsSafeRelativePath(absl::string_view path) {
  if (path.empty() || path.size() > kMaxPathBytes) return false;
  if (path.find('\0') != absl::string_view::npos) return false;
  while (true) {
    const size_t slash = path.find('/');
    const absl::string_view name = path.substr(0, slash);
    if (name.empty() || name == "." || name == ".." || name.size() > kMaxComponentBytes)
      return false;
    if (slash == absl::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

}  // namespace pbkfs
