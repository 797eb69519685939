#include "service/mount_registry.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "google/protobuf/util/json_util.h"
#include "service/limits.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

constexpr uint32_t kRecordVersion = 1;
constexpr char kSuffix[] = ".json";
constexpr char kUnfinishedSuffix[] = ".json.tmp";

absl::Status WriteAll(int fd, const std::string& bytes, const std::string& path) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = write(fd, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoError(errno, absl::StrCat("writing ", path));
    done += static_cast<size_t>(count);
  }
  return absl::OkStatus();
}

}  // namespace

std::string BootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  file >> id;
  return id;
}

absl::StatusOr<MountRegistry> MountRegistry::Open(const std::string& state_directory) {
  const std::string path = absl::StrCat(state_directory, "/mounts");
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return ErrnoError(errno, absl::StrCat("making ", path));
  }
  UniqueFd directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return ErrnoError(errno, path);
  MountRegistry registry(std::move(directory), path);
  PBKFS_RETURN_IF_ERROR(registry.RemoveUnfinished());
  return registry;
}

absl::Status MountRegistry::Save(const v1::MountRecord& record) const {
  v1::MountRecord versioned = record;
  versioned.set_version(kRecordVersion);
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(versioned, &text, options).ok()) {
    return absl::InternalError("a mount has no JSON form");
  }
  const std::string name = absl::StrCat(record.request().mount_id(), kSuffix);
  const std::string temporary = absl::StrCat(record.request().mount_id(), kUnfinishedSuffix);
  const std::string path = absl::StrCat(path_, "/", name);
  const UniqueFd file(openat(directory_.get(), temporary.c_str(),
                             O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return ErrnoError(errno, absl::StrCat("writing ", path));
  PBKFS_RETURN_IF_ERROR(WriteAll(file.get(), text, path));
  if (fdatasync(file.get()) != 0 ||
      renameat(directory_.get(), temporary.c_str(), directory_.get(), name.c_str()) != 0 ||
      fsync(directory_.get()) != 0) {
    return ErrnoError(errno, absl::StrCat("writing ", path));
  }
  return absl::OkStatus();
}

absl::Status MountRegistry::Remove(const std::string& mount_id) const {
  const std::string name = absl::StrCat(mount_id, kSuffix);
  if (unlinkat(directory_.get(), name.c_str(), 0) != 0 && errno != ENOENT) {
    return ErrnoError(errno, absl::StrCat("removing ", path_, "/", name));
  }
  return fsync(directory_.get()) == 0
             ? absl::OkStatus()
             : ErrnoError(errno, absl::StrCat("making the removal of ", name, " durable"));
}

absl::StatusOr<v1::MountRecord> MountRegistry::Read(const std::string& name) const {
  const UniqueFd fd(openat(directory_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat attributes;
  if (!fd.valid() || fstat(fd.get(), &attributes) != 0) return ErrnoError(errno, name);
  if (attributes.st_size > static_cast<off_t>(kMaxMountRecordBytes)) {
    return absl::DataLossError("it is impossibly long");
  }
  std::string text(static_cast<size_t>(attributes.st_size), '\0');
  const ssize_t count = pread(fd.get(), text.data(), text.size(), 0);
  if (count < 0) return ErrnoError(errno, name);
  text.resize(static_cast<size_t>(count));
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  v1::MountRecord record;
  if (!google::protobuf::util::JsonStringToMessage(text, &record, options).ok()) {
    return absl::DataLossError("it is not the JSON of a MountRecord");
  }
  if (record.version() > kRecordVersion) {
    return absl::UnimplementedError(
        absl::StrCat("it has version ", record.version(), ", of a newer pbkfsd"));
  }
  if (absl::StrCat(record.request().mount_id(), kSuffix) != name) {
    return absl::DataLossError("it is of another mount");
  }
  return record;
}

absl::StatusOr<v1::MountRecord> MountRegistry::Find(const std::string& mount_id) const {
  return Read(absl::StrCat(mount_id, kSuffix));
}

absl::StatusOr<std::vector<std::string>> MountRegistry::NamesWith(absl::string_view suffix) const {
  UniqueFd fd(openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* stream = fd.valid() ? fdopendir(fd.get()) : nullptr;
  if (stream == nullptr) return ErrnoError(errno, path_);
  fd.Release();
  std::vector<std::string> names;
  while (const dirent* entry = readdir(stream)) {
    if (absl::EndsWith(entry->d_name, suffix)) names.emplace_back(entry->d_name);
  }
  closedir(stream);
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status MountRegistry::RemoveUnfinished() const {
  PBKFS_ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesWith(kUnfinishedSuffix));
  for (const std::string& name : names) {
    if (unlinkat(directory_.get(), name.c_str(), 0) != 0) {
      return ErrnoError(errno, absl::StrCat("removing ", path_, "/", name));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::MountRecord>> MountRegistry::Load() const {
  PBKFS_ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesWith(kSuffix));
  std::vector<v1::MountRecord> records;
  for (const std::string& name : names) {
    absl::StatusOr<v1::MountRecord> record = Read(name);
    if (record.ok()) {
      records.push_back(*std::move(record));
    } else {
      spdlog::error("{}/{} is not used: {}", path_, name, record.status().ToString());
    }
  }
  return records;
}

}  // namespace pbkfs
