#include "service/path_policy.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fs/base/plain_path.h"
#include "fs/base/status.h"
#include "fs/base/unique_fd.h"
#include "service/limits.h"
#include "service/utf8.h"

namespace pbkfs {
namespace {

absl::Status InvalidField(absl::string_view field, absl::string_view message) {
  return WithField(ReasonError(absl::StatusCode::kInvalidArgument, reason::kInvalidField,
                               absl::StrCat(field, ": ", message)),
                   field);
}

// mountinfo writes space, tab, newline and backslash as three octal digits.
std::string UnescapeMountInfo(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

const MountInfoEntry* PbkfsMountAt(const std::vector<MountInfoEntry>& mounts,
                                   const std::string& path) {
  for (const MountInfoEntry& mount : mounts) {
    if (mount.mount_point == path && mount.IsPbkfs()) return &mount;
  }
  return nullptr;
}

// Pushes the components of `path` so that the first is on top.
void PushComponents(absl::string_view path, std::vector<std::string>* stack) {
  const std::vector<std::string> parts = absl::StrSplit(path, '/', absl::SkipEmpty());
  stack->insert(stack->end(), parts.rbegin(), parts.rend());
}

bool HasControlCharacter(absl::string_view path) {
  return std::any_of(path.begin(), path.end(), [](char c) { return absl::ascii_iscntrl(c); });
}

}  // namespace

bool MountInfoEntry::IsPbkfs() const { return type == "fuse.pbkfs"; }

std::vector<MountInfoEntry> ParseMountInfo(absl::string_view text) {
  std::vector<MountInfoEntry> mounts;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    size_t dash = 6;
    while (dash < fields.size() && fields[dash] != "-") ++dash;
    if (dash + 2 >= fields.size()) continue;
    MountInfoEntry entry;
    if (!absl::SimpleAtoi(fields[0], &entry.mount_id)) continue;
    entry.device = std::string(fields[2]);
    entry.mount_point = UnescapeMountInfo(fields[4]);
    entry.type = std::string(fields[dash + 1]);
    entry.source = UnescapeMountInfo(fields[dash + 2]);
    mounts.push_back(std::move(entry));
  }
  return mounts;
}

absl::StatusOr<std::vector<MountInfoEntry>> ReadMountInfo() {
  std::ifstream file("/proc/self/mountinfo");
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) return absl::InternalError("/proc/self/mountinfo can't be read; is /proc mounted?");
  return ParseMountInfo(text.str());
}

std::optional<MountInfoEntry> FindPbkfsAt(absl::string_view target) {
  std::optional<MountInfoEntry> found;
  // The last one covers the others.
  for (MountInfoEntry& mount : ReadMountInfo().value_or(std::vector<MountInfoEntry>())) {
    if (mount.mount_point == target && mount.IsPbkfs()) found = std::move(mount);
  }
  return found;
}

absl::StatusOr<std::string> CleanPath(absl::string_view field, absl::string_view path) {
  if (path.empty()) return InvalidField(field, "is missing");
  if (path[0] != '/') {
    return InvalidField(field, absl::StrCat("'", path, "' must be an absolute path"));
  }
  if (path.size() > kMaxPathLength) return InvalidField(field, "the path is too long");
  if (HasControlCharacter(path)) return InvalidField(field, "the path holds a control character");
  std::string clean;
  for (const absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part == "..") {
      return InvalidField(field,
                          absl::StrCat("'", path, "' holds '..'; name the directory itself"));
    }
    absl::StrAppend(&clean, "/", part);
  }
  if (clean.empty()) return InvalidField(field, "the root directory can't be used");
  return clean;
}

bool IsWithin(absl::string_view path, absl::string_view directory) {
  if (directory == "/") return true;
  return absl::StartsWith(path, directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

absl::StatusOr<ResolvedPath> ResolvePath(const std::string& path,
                                         const std::vector<MountInfoEntry>& mounts) {
  ResolvedPath resolved;
  std::vector<std::string> todo;
  PushComponents(path, &todo);
  std::string at;  // "" stands for the root directory.
  int links = 0;
  while (!todo.empty()) {
    const std::string name = std::move(todo.back());
    todo.pop_back();
    if (name == ".") continue;
    if (name == "..") {
      at.resize(at.empty() ? 0 : at.rfind('/'));
      continue;
    }
    const std::string next = absl::StrCat(at, "/", name);
    char link[PATH_MAX];
    // The mount point is looked up in the table before the first system call that could reach the
    // mount.
    const bool ours = PbkfsMountAt(mounts, next) != nullptr;
    const ssize_t length = ours ? -1 : readlink(next.c_str(), link, sizeof(link));
    const int error = ours ? EINVAL : errno;
    if (length >= 0) {
      if (++links > kMaxSymlinks) return ErrnoError(ELOOP, path);
      if (link[0] == '/') at.clear();
      PushComponents(absl::string_view(link, static_cast<size_t>(length)), &todo);
      continue;
    }
    if (error == EINVAL && !ours) {
      at = next;
      continue;
    }
    if (error != ENOENT && !ours) return ErrnoError(error, next);
    // Missing, or a mount of ours: what follows is taken as it is written.
    resolved.parent_exists = ours || todo.empty();
    resolved.exists = ours && todo.empty();
    if (ours) resolved.pbkfs_mount = next;
    resolved.path = next;
    while (!todo.empty()) {
      if (todo.back() == "..") return ErrnoError(ENOENT, next);
      absl::StrAppend(&resolved.path, "/", todo.back());
      todo.pop_back();
    }
    return resolved;
  }
  resolved.path = at.empty() ? "/" : at;
  resolved.exists = true;
  resolved.parent_exists = true;
  return resolved;
}

absl::StatusOr<std::unique_ptr<PathPolicy>> PathPolicy::Create(
    const std::vector<std::string>& allowed_roots, const std::string& state_directory) {
  std::unique_ptr<PathPolicy> policy(new PathPolicy);
  PBKFS_ASSIGN_OR_RETURN(const std::vector<MountInfoEntry> mounts, ReadMountInfo());
  PBKFS_ASSIGN_OR_RETURN(const std::string clean, CleanPath("--state-dir", state_directory));
  PBKFS_ASSIGN_OR_RETURN(const ResolvedPath resolved, ResolvePath(clean, mounts));
  policy->state_directory_ = resolved.path;
  PBKFS_RETURN_IF_ERROR(policy->SetRoots(allowed_roots));
  return policy;
}

absl::Status PathPolicy::SetRoots(const std::vector<std::string>& allowed_roots) {
  PBKFS_ASSIGN_OR_RETURN(const std::vector<MountInfoEntry> mounts, ReadMountInfo());
  std::vector<std::string> roots;
  for (const std::string& root : allowed_roots) {
    // "/" is a legal root, though CleanPath refuses it for requests.
    if (root.find_first_not_of('/') == std::string::npos) {
      roots.push_back("/");
      continue;
    }
    PBKFS_ASSIGN_OR_RETURN(const std::string clean, CleanPath("--allow-root", root));
    PBKFS_ASSIGN_OR_RETURN(const ResolvedPath resolved, ResolvePath(clean, mounts));
    roots.push_back(resolved.path);
  }
  MutexLock lock(&mutex_);
  roots_ = std::move(roots);
  return absl::OkStatus();
}

absl::StatusOr<ResolvedPath> PathPolicy::Resolve(absl::string_view field,
                                                 const std::string& path) const {
  PBKFS_ASSIGN_OR_RETURN(const std::vector<MountInfoEntry> mounts, ReadMountInfo());
  absl::StatusOr<ResolvedPath> resolved = ResolvePath(path, mounts);
  if (!resolved.ok()) return InvalidField(field, resolved.status().message());
  // Links lead to names that no request can hold. Records and the keeper's state are text.
  if (HasControlCharacter(resolved->path) || ToUtf8(resolved->path) != resolved->path) {
    return InvalidField(field, absl::StrCat(path, " leads to '", absl::CHexEscape(resolved->path),
                                            "', which holds a control character or is not UTF-8; "
                                            "name a directory without such a name in its path"));
  }
  std::vector<std::string> allowed_roots;
  {
    MutexLock lock(&mutex_);
    allowed_roots = roots_;
  }
  bool allowed = IsWithin(resolved->path, state_directory_);
  for (const std::string& root : allowed_roots) allowed = allowed || IsWithin(resolved->path, root);
  if (!allowed) {
    const std::string roots = allowed_roots.empty()
                                  ? std::string("none is set")
                                  : absl::StrCat("now: ", absl::StrJoin(allowed_roots, ", "));
    return WithField(
        ReasonError(
            absl::StatusCode::kPermissionDenied, reason::kPathNotAllowed,
            absl::StrCat(field, " ", resolved->path, " is outside of the allowed roots (", roots,
                         "); give pbkfsd a directory that holds it, with --allow-root or "
                         "allow_root in its configuration file")),
        field);
  }
  if (!resolved->pbkfs_mount.empty()) {
    return InvalidField(
        field, absl::StrCat(
                   path, " lies in the pbkfs mount at ", resolved->pbkfs_mount,
                   "; unmount it (umount -l where its daemon is gone), or name another directory"));
  }
  return resolved;
}

absl::Status CheckOutsideCatalogs(absl::string_view field, const std::string& path) {
  for (size_t end = path.rfind('/'); end != 0 && end != std::string::npos;
       end = path.rfind('/', end - 1)) {
    const std::string above = path.substr(0, end);
    const absl::StatusOr<UniqueFd> directory = OpenPlainDirectory(above, O_PATH);
    if (!directory.ok()) continue;
    if (!HoldsDirectory(directory->get(), "backups") || !HoldsDirectory(directory->get(), "wal")) {
      continue;
    }
    return InvalidField(field, absl::StrCat(path, " lies in the pg_probackup catalog ", above,
                                            "; name a directory outside of it"));
  }
  return absl::OkStatus();
}

absl::Status CheckApart(const MountPaths& paths) {
  const std::pair<absl::string_view, const std::string*> named[] = {
      {"store", &paths.store}, {"target", &paths.target}, {"diff_dir", &paths.diff}};
  for (int i = 0; i < 3; ++i) {
    for (int j = i + 1; j < 3; ++j) {
      const auto& [field_a, a] = named[i];
      const auto& [field_b, b] = named[j];
      if (!IsWithin(*a, *b) && !IsWithin(*b, *a)) continue;
      return InvalidField(field_b, absl::StrCat(*b, " and ", field_a, " ", *a,
                                                " contain one another; use separate directories"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckApartFrom(const MountPaths& paths, const MountPaths& other,
                            absl::string_view other_id) {
  struct Rule {
    absl::string_view field;
    const std::string& mine;
    absl::string_view what;
    const std::string& theirs;
    bool equal_allowed;
  };
  const Rule rules[] = {
      {"store", paths.store, "target", other.target, false},
      {"store", paths.store, "diff", other.diff, false},
      {"target", paths.target, "store", other.store, false},
      {"target", paths.target, "target", other.target, true},
      {"target", paths.target, "diff", other.diff, false},
      {"diff_dir", paths.diff, "store", other.store, false},
      {"diff_dir", paths.diff, "target", other.target, false},
      {"diff_dir", paths.diff, "diff", other.diff, true},
  };
  for (const Rule& rule : rules) {
    if (rule.equal_allowed && rule.mine == rule.theirs) continue;
    if (!IsWithin(rule.mine, rule.theirs) && !IsWithin(rule.theirs, rule.mine)) continue;
    return InvalidField(
        rule.field, absl::StrCat(rule.mine, " and the ", rule.what, " ", rule.theirs, " of mount '",
                                 other_id, "' contain one another; use separate directories"));
  }
  return absl::OkStatus();
}

}  // namespace pbkfs
