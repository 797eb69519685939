#include "fs/base/memory_limit.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace pbkfs {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

int64_t PhysicalBytes(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    int64_t kibibytes = 0;
    if (words.size() >= 2 && words[0] == "MemTotal:" && absl::SimpleAtoi(words[1], &kibibytes) &&
        kibibytes > 0 && kibibytes < kNoLimit / 1024) {
      return kibibytes * 1024;
    }
  }
  return kNoLimit;
}

// "max" and everything that is no positive number is no limit.
int64_t LimitIn(const std::string& path) {
  std::ifstream file(path);
  std::string text;
  int64_t bytes = 0;
  if (!std::getline(file, text)) return kNoLimit;
  return absl::SimpleAtoi(absl::StripAsciiWhitespace(text), &bytes) && bytes > 0 ? bytes : kNoLimit;
}

// The least limit of a cgroup and of those above it. In a container the path may be one of the
// host, of which only the top is visible.
int64_t LeastLimit(const std::string& mount, absl::string_view group, absl::string_view file) {
  int64_t least = kNoLimit;
  while (true) {
    least = std::min(least, LimitIn(absl::StrCat(mount, group, "/", file)));
    const size_t slash = group.rfind('/');
    if (slash == absl::string_view::npos) return least;
    group = group.substr(0, slash);
  }
}

int64_t CgroupBytes(const std::string& root) {
  int64_t least = kNoLimit;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    const absl::string_view group = fields[2] == "/" ? "" : fields[2];
    const std::string mount = root + "/sys/fs/cgroup";
    const std::vector<absl::string_view> controllers = absl::StrSplit(fields[1], ',');
    if (fields[0] == "0" && fields[1].empty()) {
      least = std::min(least, LeastLimit(mount, group, "memory.max"));
    } else if (std::find(controllers.begin(), controllers.end(), "memory") != controllers.end()) {
      least = std::min(least, LeastLimit(mount + "/memory", group, "memory.limit_in_bytes"));
    }
  }
  return least;
}

}  // namespace

int64_t MemoryLimitBytes(const std::string& root) {
  const int64_t limit = std::min(PhysicalBytes(root), CgroupBytes(root));
  return limit == kNoLimit ? 0 : limit;
}

int64_t MemoryShareBytes(int64_t limit_bytes, int64_t divisor, int64_t most) {
  return limit_bytes <= 0 ? most : std::min(limit_bytes / divisor, most);
}

}  // namespace pbkfs
