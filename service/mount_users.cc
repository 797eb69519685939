#include "service/mount_users.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "service/limits.h"

namespace pbkfs {
namespace {

struct CloseDir {
  void operator()(DIR* directory) const { closedir(directory); }
};
using UniqueDir = std::unique_ptr<DIR, CloseDir>;

// Where the file system is mounted in one mount namespace.
using Places = std::vector<MountInfoEntry>;

std::string ReadLink(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t length = readlink(path.c_str(), target, sizeof(target));
  return length > 0 ? std::string(target, static_cast<size_t>(length)) : std::string();
}

Places PlacesOf(const std::string& process, const MountInfoEntry& mount) {
  std::ifstream file(absl::StrCat(process, "/mountinfo"));
  std::ostringstream text;
  text << file.rdbuf();
  Places places;
  // As it was, where it is detached by now. The kernel gives the number of a mount that is gone to
  // the next one.
  bool id_is_ours = true;
  for (MountInfoEntry& entry : ParseMountInfo(text.str())) {
    if (entry.device == mount.device) {
      places.push_back(std::move(entry));
    } else if (entry.mount_id == mount.mount_id) {
      id_is_ours = false;
    }
  }
  if (id_is_ours) places.push_back(mount);
  return places;
}

// Whether /proc/PID/fdinfo/FD tells of a file on the mount.
bool DescriptorIsOn(const std::string& fdinfo, const Places& places) {
  std::ifstream file(fdinfo);
  std::string key;
  int id = 0;
  while (file >> key) {
    if (key != "mnt_id:") continue;
    if (!(file >> id)) return false;
    return std::any_of(places.begin(), places.end(),
                       [id](const MountInfoEntry& place) { return place.mount_id == id; });
  }
  return false;
}

bool ProcessUses(const std::string& process, const Places& places) {
  for (const char* link : {"/cwd", "/root"}) {
    const std::string path = ReadLink(absl::StrCat(process, link));
    for (const MountInfoEntry& place : places) {
      if (!path.empty() && IsWithin(path, place.mount_point)) return true;
    }
  }
  const UniqueDir descriptors(opendir(absl::StrCat(process, "/fdinfo").c_str()));
  if (descriptors == nullptr) return false;
  while (const dirent* entry = readdir(descriptors.get())) {
    if (entry->d_name[0] == '.') continue;
    if (DescriptorIsOn(absl::StrCat(process, "/fdinfo/", entry->d_name), places)) return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> MountUsers(const MountInfoEntry& mount) {
  std::vector<std::string> users;
  if (mount.mount_point.empty()) return users;  // It was never seen.
  const UniqueDir processes(opendir("/proc"));
  if (processes == nullptr) return users;
  std::map<std::string, Places> namespaces;
  while (const dirent* entry = readdir(processes.get())) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry->d_name, &pid)) continue;
    const std::string process = absl::StrCat("/proc/", pid);
    const auto [places, is_new] = namespaces.try_emplace(ReadLink(process + "/ns/mnt"));
    if (is_new) places->second = PlacesOf(process, mount);
    if (!ProcessUses(process, places->second)) continue;
    std::string name;
    std::ifstream comm(process + "/comm");
    std::getline(comm, name);
    users.push_back(absl::StrCat(name, " (pid ", pid, ")"));
    if (users.size() == kMaxNamedUsers) break;
  }
  return users;
}

}  // namespace pbkfs
