#include "service/mount_users.h"

#include <dirent.h>
#include <unistd.h>

#include <climits>
#include <fstream>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "service/limits.h"
#include "service/path_policy.h"

namespace pbkfs {
namespace {

struct CloseDir {
  void operator()(DIR* directory) const { closedir(directory); }
};
using UniqueDir = std::unique_ptr<DIR, CloseDir>;

// Whether /proc/PID/fdinfo/FD tells of a file on the mount.
bool DescriptorIsOn(const std::string& fdinfo, int mount_id) {
  std::ifstream file(fdinfo);
  std::string key;
  int id = 0;
  while (file >> key) {
    if (key == "mnt_id:") return (file >> id) && id == mount_id;
  }
  return false;
}

bool ProcessUses(const std::string& process, int mount_id, const std::string& mount_point) {
  for (const char* link : {"/cwd", "/root"}) {
    char path[PATH_MAX];
    const ssize_t length = readlink(absl::StrCat(process, link).c_str(), path, sizeof(path));
    if (length > 0 && IsWithin(absl::string_view(path, static_cast<size_t>(length)), mount_point)) {
      return true;
    }
  }
  const UniqueDir descriptors(opendir(absl::StrCat(process, "/fdinfo").c_str()));
  if (descriptors == nullptr) return false;
  while (const dirent* entry = readdir(descriptors.get())) {
    if (entry->d_name[0] == '.') continue;
    if (DescriptorIsOn(absl::StrCat(process, "/fdinfo/", entry->d_name), mount_id)) return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> MountUsers(int mount_id, const std::string& mount_point) {
  std::vector<std::string> users;
  const UniqueDir processes(opendir("/proc"));
  if (processes == nullptr) return users;
  while (const dirent* entry = readdir(processes.get())) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry->d_name, &pid)) continue;
    const std::string process = absl::StrCat("/proc/", pid);
    if (!ProcessUses(process, mount_id, mount_point)) continue;
    std::string name;
    std::ifstream comm(process + "/comm");
    std::getline(comm, name);
    users.push_back(absl::StrCat(name, " (pid ", pid, ")"));
    if (users.size() == kMaxNamedUsers) break;
  }
  return users;
}

}  // namespace pbkfs
