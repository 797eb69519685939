// Opening files of a catalog: always beneath a directory descriptor, never through a symlink, so
// that no name in a catalog can lead out of it.
#ifndef PBKFS_FS_CATALOG_BENEATH_H_
#define PBKFS_FS_CATALOG_BENEATH_H_

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "fs/base/unique_fd.h"

namespace pbkfs {

// Device, inode, size and time stamp of a file: what must be unchanged for it to be the same file.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  int64_t size = 0;
  struct timespec modified = {};
  bool operator==(const FileIdentity& other) const;
  template <typename H>
  friend H AbslHashValue(H state, const FileIdentity& file) {
    return H::combine(std::move(state), file.device, file.inode, file.size, file.modified.tv_sec,
                      file.modified.tv_nsec);
  }
};
FileIdentity IdentityOf(const struct stat& st);

// openat2 with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS. Errors carry the errno and `path`.
absl::StatusOr<UniqueFd> OpenDirectoryBeneath(int directory, absl::string_view path);

struct OpenedFile {
  UniqueFd fd;
  FileIdentity identity;
};
// A regular file, for reading; anything else is DATA_LOSS. Never blocks on a FIFO.
absl::StatusOr<OpenedFile> OpenRegularBeneath(int directory, absl::string_view path);

// The whole file. DATA_LOSS where it has more than `limit` bytes.
absl::StatusOr<std::string> ReadWhole(const OpenedFile& file, size_t limit);

// The whole file from its begin, piece by piece, each to `take`; a piece is gone after that.
// DATA_LOSS where it has more than `limit` bytes.
absl::Status ReadInPieces(const OpenedFile& file, size_t limit,
                          absl::FunctionRef<void(absl::string_view)> take);

// Fills `out` from `offset`. DATA_LOSS where the file ends before.
absl::Status ReadExactly(int fd, int64_t offset, absl::Span<uint8_t> out);

// The names of the directories directly in `directory` that do not start with '.', sorted. Symlinks
// are not directories here.
absl::StatusOr<std::vector<std::string>> ListDirectories(int directory);

// Whether `path` is relative, not empty, within the limits, without NUL and without empty, "." and
// ".." components.
bool IsSafeRelativePath(absl::string_view path);

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_BENEATH_H_
