// Every access of the writable layer to the operating system goes through these interfaces, so that
// tests can delay, fail, cut short and forget what was not synced. PosixIo is the real one.
//
// Errors carry the errno (fs/base/status.h). All methods may be called from any thread.
#ifndef PBKFS_FS_BASE_IO_H_
#define PBKFS_FS_BASE_IO_H_

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "fs/base/unique_fd.h"

namespace pbkfs {

// An open regular file. Closed by the destructor.
class IoFile {
 public:
  virtual ~IoFile() = default;
  // Reads up to out.size() bytes; less only at the end of the file.
  virtual absl::StatusOr<size_t> Read(int64_t offset, absl::Span<uint8_t> out) = 0;
  // Writes all of `data`, or fails; a failed write may have written a prefix.
  virtual absl::Status Write(int64_t offset, absl::Span<const uint8_t> data) = 0;
  virtual absl::Status Truncate(int64_t size) = 0;
  // `mode` as for fallocate(2).
  virtual absl::Status Allocate(int mode, int64_t offset, int64_t length) = 0;
  virtual absl::Status DataSync() = 0;
  // Starts writing out the range without waiting for it; a hint.
  virtual void StartWriteback(int64_t offset, int64_t length) = 0;
  virtual absl::StatusOr<struct stat> Stat() = 0;
  virtual absl::Status SetTimes(const struct timespec times[2]) = 0;
  // As lseek with SEEK_DATA or SEEK_HOLE; -1 where there is no more data.
  virtual absl::StatusOr<int64_t> Seek(int64_t offset, int whence) = 0;
  // Takes an exclusive lock on the open file description without waiting; false = somebody else has
  // it.
  virtual absl::StatusOr<bool> TryLock() = 0;
  // Borrowed; -1 where the file is none of the operating system's.
  virtual int descriptor() const { return -1; }
};

// What tells one directory of one mounted file system from every other.
struct DirIdentity {
  uint64_t mount_id =
      0;  // STATX_MNT_ID_UNIQUE: never used again while the machine runs. 0 = not known.
  uint64_t device = 0;
  uint64_t inode = 0;
  bool in_memory = false;  // The file system is tmpfs or ramfs.
};

// An open directory. Names are single components.
class IoDir {
 public:
  virtual ~IoDir() = default;
  // `flags` as for open(2); O_CLOEXEC and O_NOFOLLOW are added.
  virtual absl::StatusOr<std::unique_ptr<IoFile>> OpenFile(absl::string_view name, int flags,
                                                           mode_t mode) = 0;
  virtual absl::StatusOr<std::unique_ptr<IoDir>> OpenDir(absl::string_view name) = 0;
  virtual absl::Status MakeDir(absl::string_view name, mode_t mode) = 0;
  virtual absl::Status Remove(absl::string_view name) = 0;
  // Replaces `new_name` in `new_directory` (a directory of the same Io).
  virtual absl::Status Rename(absl::string_view name, IoDir& new_directory,
                              absl::string_view new_name) = 0;
  virtual absl::StatusOr<std::vector<std::string>> List() = 0;
  virtual absl::StatusOr<struct stat> Stat() = 0;
  virtual absl::StatusOr<DirIdentity> Identity() = 0;
  virtual absl::StatusOr<struct statvfs> FileSystem() = 0;
  // Makes the directory's entries durable.
  virtual absl::Status Sync() = 0;
  // syncfs(2) on the file system of the directory.
  virtual absl::Status SyncFileSystem() = 0;
  // Borrowed; -1 where the directory is none of the operating system's.
  virtual int descriptor() const { return -1; }
};

class Io {
 public:
  virtual ~Io() = default;
  // Opens the directory at an absolute path, none of whose components is a symbolic link.
  virtual absl::StatusOr<std::unique_ptr<IoDir>> OpenDir(const std::string& path) = 0;
  // Makes a directory at such a path; ALREADY_EXISTS where there is something.
  virtual absl::Status MakeDir(const std::string& path, mode_t mode) = 0;
};

// The operating system's own. Lives as long as the process.
Io& PosixIo();

// A directory that is open already; `path` is for messages.
std::unique_ptr<IoDir> AdoptDirectory(UniqueFd fd, std::string path);

}  // namespace pbkfs

#endif  // PBKFS_FS_BASE_IO_H_
