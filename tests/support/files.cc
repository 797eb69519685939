#include "tests/support/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/support/fatal.h"

namespace pbkfs::testsupport {
namespace {

constexpr size_t kChunkBytes = 65536;

bool AllZero(std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char byte) { return byte == 0; });
}

void WriteSparse(int fd, std::string_view bytes, const std::string& path) {
  for (size_t offset = 0; offset < bytes.size();) {
    const std::string_view chunk = bytes.substr(offset, kChunkBytes);
    if (AllZero(chunk)) {
      offset += chunk.size();
      continue;
    }
    const ssize_t written = pwrite(fd, chunk.data(), chunk.size(), static_cast<off_t>(offset));
    if (written < 0) FatalErrno("write", path);
    offset += static_cast<size_t>(written);
  }
  if (ftruncate(fd, static_cast<off_t>(bytes.size())) != 0) FatalErrno("set the length of", path);
}

}  // namespace

void Fatal(const std::string& message) {
  fflush(stdout);
  fprintf(stderr, "catalog writer: %s\n", message.c_str());
  fflush(stderr);
  _exit(1);
}

void FatalErrno(const std::string& what, const std::string& path) {
  const int error = errno;
  Fatal("cannot " + what + " " + path + ": " + strerror(error));
}

std::optional<std::string> ReadFileIfExists(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    FatalErrno("open", path);
  }
  std::string bytes;
  std::array<char, kChunkBytes> buffer;
  for (;;) {
    const ssize_t count = read(fd, buffer.data(), buffer.size());
    if (count < 0) FatalErrno("read", path);
    if (count == 0) break;
    bytes.append(buffer.data(), static_cast<size_t>(count));
  }
  close(fd);
  return bytes;
}

std::string ReadWholeFile(const std::string& path) {
  std::optional<std::string> bytes = ReadFileIfExists(path);
  if (!bytes) FatalErrno("open", path);
  return *std::move(bytes);
}

void WriteWholeFile(const std::string& path, std::string_view bytes, mode_t mode) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) FatalErrno("create", path);
  WriteSparse(fd, bytes, path);
  if (fchmod(fd, mode) != 0) FatalErrno("set the mode of", path);
  if (close(fd) != 0) FatalErrno("close", path);
}

void ReplaceFile(const std::string& path, std::string_view bytes, mode_t mode) {
  const std::string temporary = path + ".tmp";
  WriteWholeFile(temporary, bytes, mode);
  if (rename(temporary.c_str(), path.c_str()) != 0) FatalErrno("rename over", path);
}

void MakeDirectories(const std::string& path, mode_t mode) {
  if (path.empty() || mkdir(path.c_str(), mode) == 0 || errno == EEXIST) return;
  if (errno != ENOENT) FatalErrno("make directory", path);
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0) FatalErrno("make directory", path);
  MakeDirectories(path.substr(0, slash), mode);
  if (mkdir(path.c_str(), mode) != 0 && errno != EEXIST) FatalErrno("make directory", path);
}

std::vector<std::string> ListDirectory(const std::string& path) {
  std::vector<std::string> names;
  DIR* directory = opendir(path.c_str());
  if (directory == nullptr) {
    if (errno == ENOENT) return names;
    FatalErrno("list", path);
  }
  while (const dirent* entry = readdir(directory)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  closedir(directory);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace pbkfs::testsupport
