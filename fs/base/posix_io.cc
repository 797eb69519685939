#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "fs/base/io.h"
#include "fs/base/plain_path.h"
#include "fs/base/status.h"
#include "fs/base/unique_fd.h"

namespace pbkfs {
namespace {

// STATX_MNT_ID_UNIQUE of kernel 6.8, which Debian 12's headers do not know yet.
constexpr unsigned kStatxMountIdUnique = 0x4000;

class PosixFile final : public IoFile {
 public:
  PosixFile(UniqueFd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}

  absl::StatusOr<size_t> Read(int64_t offset, absl::Span<uint8_t> out) override {
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t count = pread(fd_.get(), out.data() + done, out.size() - done,
                                  offset + static_cast<int64_t>(done));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return Error("read");
      if (count == 0) break;
      done += static_cast<size_t>(count);
    }
    return done;
  }

  absl::Status Write(int64_t offset, absl::Span<const uint8_t> data) override {
    size_t done = 0;
    while (done < data.size()) {
      const ssize_t count = pwrite(fd_.get(), data.data() + done, data.size() - done,
                                   offset + static_cast<int64_t>(done));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return Error("write");
      if (count == 0) return ErrnoError(EIO, absl::StrCat("write ", name_, ": wrote nothing"));
      done += static_cast<size_t>(count);
    }
    return absl::OkStatus();
  }

  absl::Status Truncate(int64_t size) override {
    return Check(Retry([&] { return ftruncate(fd_.get(), size); }), "truncate");
  }

  absl::Status Allocate(int mode, int64_t offset, int64_t length) override {
    return Check(Retry([&] { return fallocate(fd_.get(), mode, offset, length); }), "fallocate");
  }

  absl::Status DataSync() override {
    return Check(Retry([&] { return fdatasync(fd_.get()); }), "fdatasync");
  }

  void StartWriteback(int64_t offset, int64_t length) override {
    sync_file_range(fd_.get(), offset, length, SYNC_FILE_RANGE_WRITE);
  }

  absl::StatusOr<struct stat> Stat() override {
    struct stat result;
    if (fstat(fd_.get(), &result) != 0) return Error("stat");
    return result;
  }

  absl::Status SetTimes(const struct timespec times[2]) override {
    return Check(futimens(fd_.get(), times), "utimens");
  }

  absl::StatusOr<int64_t> Seek(int64_t offset, int whence) override {
    const off_t result = lseek(fd_.get(), offset, whence);
    if (result < 0 && errno == ENXIO) return -1;
    if (result < 0) return Error("lseek");
    return result;
  }

  absl::StatusOr<bool> TryLock() override {
    if (Retry([&] { return flock(fd_.get(), LOCK_EX | LOCK_NB); }) == 0) return true;
    if (errno == EWOULDBLOCK) return false;
    return Error("flock");
  }

  int descriptor() const override { return fd_.get(); }

 private:
  template <typename Call>
  static int Retry(Call call) {
    int result;
    do {
      result = call();
    } while (result != 0 && errno == EINTR);
    return result;
  }
  absl::Status Error(absl::string_view what) const {
    return ErrnoError(errno, absl::StrCat(what, " ", name_));
  }
  absl::Status Check(int result, absl::string_view what) const {
    return result == 0 ? absl::OkStatus() : Error(what);
  }

  const UniqueFd fd_;
  const std::string name_;
};

class PosixDir final : public IoDir {
 public:
  PosixDir(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  absl::StatusOr<std::unique_ptr<IoFile>> OpenFile(absl::string_view name, int flags,
                                                   mode_t mode) override {
    UniqueFd fd(openat(fd_.get(), std::string(name).c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode));
    if (!fd.valid()) return Error("open", name);
    return std::make_unique<PosixFile>(std::move(fd), PathOf(name));
  }

  absl::StatusOr<std::unique_ptr<IoDir>> OpenDir(absl::string_view name) override {
    UniqueFd fd(openat(fd_.get(), std::string(name).c_str(),
                       O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd.valid()) return Error("open directory", name);
    return std::make_unique<PosixDir>(std::move(fd), PathOf(name));
  }

  absl::Status MakeDir(absl::string_view name, mode_t mode) override {
    if (mkdirat(fd_.get(), std::string(name).c_str(), mode) != 0) return Error("mkdir", name);
    return absl::OkStatus();
  }

  absl::Status Remove(absl::string_view name) override {
    const std::string path(name);
    if (unlinkat(fd_.get(), path.c_str(), 0) == 0) return absl::OkStatus();
    if (errno == EISDIR && unlinkat(fd_.get(), path.c_str(), AT_REMOVEDIR) == 0) {
      return absl::OkStatus();
    }
    return Error("unlink", name);
  }

  absl::Status Rename(absl::string_view name, IoDir& new_directory,
                      absl::string_view new_name) override {
    auto& target = static_cast<PosixDir&>(new_directory);
    if (renameat(fd_.get(), std::string(name).c_str(), target.fd_.get(),
                 std::string(new_name).c_str()) != 0) {
      return Error("rename", name);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List() override {
    // A new open file description: the position in a directory belongs to it.
    UniqueFd fd(openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return Error("open directory", ".");
    DIR* stream = fdopendir(fd.get());
    if (stream == nullptr) return Error("read directory", ".");
    fd.Release();
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = readdir(stream)) {
      const absl::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
      errno = 0;
    }
    const int error = errno;
    closedir(stream);
    if (error != 0) return ErrnoError(error, absl::StrCat("read directory ", path_));
    return names;
  }

  absl::StatusOr<struct stat> Stat() override {
    struct stat result;
    if (fstat(fd_.get(), &result) != 0) return Error("stat", ".");
    return result;
  }

  absl::StatusOr<DirIdentity> Identity() override {
    struct stat attributes;
    struct statfs file_system;
    if (fstat(fd_.get(), &attributes) != 0) return Error("stat", ".");
    if (fstatfs(fd_.get(), &file_system) != 0) return Error("statfs", ".");
    DirIdentity identity;
    identity.device = attributes.st_dev;
    identity.inode = attributes.st_ino;
    identity.in_memory = file_system.f_type == TMPFS_MAGIC || file_system.f_type == RAMFS_MAGIC;
    struct statx extended;
    if (statx(fd_.get(), "", AT_EMPTY_PATH, kStatxMountIdUnique, &extended) == 0 &&
        (extended.stx_mask & kStatxMountIdUnique) != 0) {
      identity.mount_id = extended.stx_mnt_id;
    }
    return identity;
  }

  absl::StatusOr<struct statvfs> FileSystem() override {
    struct statvfs result;
    if (fstatvfs(fd_.get(), &result) != 0) return Error("statvfs", ".");
    return result;
  }

  absl::Status Sync() override {
    if (fsync(fd_.get()) != 0) return Error("fsync", ".");
    return absl::OkStatus();
  }

  absl::Status SyncFileSystem() override {
    if (syncfs(fd_.get()) != 0) return Error("syncfs", ".");
    return absl::OkStatus();
  }

  int descriptor() const override { return fd_.get(); }

 private:
  std::string PathOf(absl::string_view name) const { return absl::StrCat(path_, "/", name); }
  absl::Status Error(absl::string_view what, absl::string_view name) const {
    return ErrnoError(errno, absl::StrCat(what, " ", PathOf(name)));
  }

  const UniqueFd fd_;
  const std::string path_;
};

class PosixIoImpl final : public Io {
 public:
  absl::StatusOr<std::unique_ptr<IoDir>> OpenDir(const std::string& path) override {
    PBKFS_ASSIGN_OR_RETURN(UniqueFd fd, OpenPlainDirectory(path, O_RDONLY));
    return std::make_unique<PosixDir>(std::move(fd), path);
  }

  absl::Status MakeDir(const std::string& path, mode_t mode) override {
    PBKFS_ASSIGN_OR_RETURN(const PlainParent parent, OpenPlainParent(path));
    if (mkdirat(parent.directory.get(), parent.name.c_str(), mode) != 0) {
      return ErrnoError(errno, absl::StrCat("mkdir ", path));
    }
    return absl::OkStatus();
  }
};

}  // namespace

Io& PosixIo() {
  static PosixIoImpl* const io = new PosixIoImpl;
  return *io;
}

std::unique_ptr<IoDir> AdoptDirectory(UniqueFd fd, std::string path) {
  return std::make_unique<PosixDir>(std::move(fd), std::move(path));
}

}  // namespace pbkfs
