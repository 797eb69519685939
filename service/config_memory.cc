#include "service/config_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "fs/base/status.h"

namespace pbkfs {
namespace {

// Which bytes are in force. It lies in one page and is written by one call, so that whoever is
// killed has written all of it or nothing.
struct Header {
  uint64_t offset = 0;
  uint64_t size = 0;
};

// A configuration is written where the one in force is not.
constexpr uint64_t kSlots[] = {uint64_t{1} << 20, uint64_t{64} << 20};
constexpr uint64_t kMaxSize = uint64_t{32} << 20;

absl::Status WriteAll(int fd, const void* data, size_t size, uint64_t offset) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t count = pwrite(fd, bytes, size, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return ErrnoError(errno, "keeping the configuration");
    bytes += count;
    size -= static_cast<size_t>(count);
    offset += static_cast<uint64_t>(count);
  }
  return absl::OkStatus();
}

absl::Status ReadAll(int fd, void* data, size_t size, uint64_t offset) {
  char* bytes = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t count = pread(fd, bytes, size, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoError(errno, "the configuration that the keeper holds");
    if (count == 0)
      return absl::DataLossError("the configuration that the keeper holds is cut off");
    bytes += count;
    size -= static_cast<size_t>(count);
    offset += static_cast<uint64_t>(count);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ConfigMemory> ConfigMemory::Create(const v1::DaemonConfig& config) {
  UniqueFd fd(memfd_create("pbkfs-config", 0));
  if (!fd.valid()) return ErrnoError(errno, "memfd_create");
  ConfigMemory memory(std::move(fd));
  PBKFS_RETURN_IF_ERROR(memory.Write(config));
  return memory;
}

void ConfigMemory::KeepPrivate() const { fcntl(fd_.get(), F_SETFD, FD_CLOEXEC); }

absl::StatusOr<v1::DaemonConfig> ConfigMemory::Read() const {
  Header header;
  PBKFS_RETURN_IF_ERROR(ReadAll(fd_.get(), &header, sizeof(header), 0));
  if (header.size > kMaxSize) {
    return absl::DataLossError("the configuration that the keeper holds is none");
  }
  std::string bytes(header.size, '\0');
  PBKFS_RETURN_IF_ERROR(ReadAll(fd_.get(), bytes.data(), bytes.size(), header.offset));
  v1::DaemonConfig config;
  if (!config.ParseFromString(bytes)) {
    return absl::DataLossError("the configuration that the keeper holds is none");
  }
  return config;
}

absl::Status ConfigMemory::Write(const v1::DaemonConfig& config) const {
  const std::string bytes = config.SerializeAsString();
  if (bytes.size() > kMaxSize) return absl::ResourceExhaustedError("the configuration is too long");
  Header header;
  // Nothing is there at first.
  if (!ReadAll(fd_.get(), &header, sizeof(header), 0).ok()) header = Header();
  header.offset = header.offset == kSlots[0] ? kSlots[1] : kSlots[0];
  header.size = bytes.size();
  PBKFS_RETURN_IF_ERROR(WriteAll(fd_.get(), bytes.data(), bytes.size(), header.offset));
  return WriteAll(fd_.get(), &header, sizeof(header), 0);
}

}  // namespace pbkfs
