#include "tests/support/cluster_scan.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <initializer_list>
#include <set>
#include <string_view>

#include "tests/support/control_text.h"
#include "tests/support/fatal.h"
#include "tests/support/files.h"

namespace pbkfs::testsupport {
namespace {

// A symbolic link that leads back up would otherwise never end.
constexpr int kMaxDepth = 32;

bool IsOneOf(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool IsExcludedPath(std::string_view path) {
  return IsOneOf(path, {"postgresql.auto.conf.tmp", "current_logfiles.tmp", "recovery.conf",
                        "postmaster.pid", "postmaster.opts", "probackup_recovery.conf",
                        "recovery.signal", "standby.signal", "backup_label", "tablespace_map"});
}

bool IsExcludedName(std::string_view name) {
  return name.starts_with('.') || name.ends_with("_ptrack") ||
         IsOneOf(name, {"pg_internal.init", "ptrack_init", "ptrack.map.mmap", "ptrack.map.tmp"});
}

// Directories that keep their entry and lose their content.
bool IsEmptied(std::string_view path, std::string_view name) {
  if (path == "log" || name == "pgsql_tmp") return true;
  return !path.starts_with("pg_tblspc/") &&
         IsOneOf(name, {"pg_wal", "pg_stat_tmp", "pg_replslot", "pg_dynshmem", "pg_notify",
                        "pg_serial", "pg_snapshots", "pg_subtrans"});
}

// "PG_15_202209061": belongs into a tablespace, and there only the one of this cluster is wanted.
bool IsVersionDirectory(std::string_view name) {
  return name.starts_with("PG_") && name.size() > 3 &&
         isdigit(static_cast<unsigned char>(name[3])) != 0 &&
         name.find('_', 3) != std::string_view::npos;
}

bool IsDatabaseDirectory(std::string_view path) {
  return DatabaseOid(path) != 0 && DatabaseOid(path.substr(0, path.rfind('/'))) == 0;
}

bool IsTemporaryRelation(std::string_view name) {
  return name.size() > 1 && name[0] == 't' && isdigit(static_cast<unsigned char>(name[1])) != 0;
}

std::string_view RelationOf(std::string_view name) {
  return name.substr(0, name.find_first_of("._"));
}

// The relations of a database directory that have an init fork: unlogged ones, which recovery
// empties anyway.
std::set<std::string, std::less<>> UnloggedRelations(const std::vector<std::string>& names) {
  std::set<std::string, std::less<>> relations;
  for (const std::string& name : names) {
    if (name.ends_with("_init") && isdigit(static_cast<unsigned char>(name[0])) != 0) {
      relations.insert(std::string(RelationOf(name)));
    }
  }
  return relations;
}

class Scanner {
 public:
  Scanner(const std::string& pgdata, const std::string& version_directory)
      : pgdata_(pgdata), version_directory_(version_directory) {}

  void ScanDirectory(const std::string& path, int depth) {
    const std::vector<std::string> names =
        ListDirectory(path.empty() ? pgdata_ : pgdata_ + "/" + path);
    std::set<std::string, std::less<>> unlogged;
    const bool database = IsDatabaseDirectory(path);
    if (database) unlogged = UnloggedRelations(names);
    for (const std::string& name : names) {
      if (database && IsTemporaryRelation(name)) continue;
      const bool sorts_before_init = !name.ends_with("_init") && !name.ends_with("_vm");
      if (sorts_before_init && unlogged.contains(RelationOf(name))) continue;
      Visit(path.empty() ? name : path + "/" + name, name, depth);
    }
  }

  std::vector<SourceFile> Take() { return std::move(files_); }

 private:
  void Visit(const std::string& path, const std::string& name, int depth) {
    if (IsExcludedName(name) || IsExcludedPath(path)) return;
    struct stat status;
    if (stat((pgdata_ + "/" + path).c_str(), &status) != 0) {
      if (errno == ENOENT) return;
      FatalErrno("look at", pgdata_ + "/" + path);
    }
    SourceFile file;
    file.path = path;
    file.mode = status.st_mode;
    if (S_ISREG(status.st_mode)) {
      file.is_datafile = IsDataFilePath(path, &file.segment);
      files_.push_back(std::move(file));
    } else if (S_ISDIR(status.st_mode)) {
      const bool in_tablespace =
          path.starts_with("pg_tblspc/") && std::count(path.begin(), path.end(), '/') == 2;
      if (IsVersionDirectory(name) && !(in_tablespace && name == version_directory_)) return;
      if (depth >= kMaxDepth)
        Fatal(path + ": directories nest too deeply; does a symbolic link lead back up?");
      file.is_directory = true;
      files_.push_back(std::move(file));
      if (!IsEmptied(path, name)) ScanDirectory(path, depth + 1);
    }
  }

  const std::string pgdata_;
  const std::string version_directory_;
  std::vector<SourceFile> files_;
};

}  // namespace

std::vector<SourceFile> ScanCluster(const std::string& pgdata,
                                    const std::string& version_directory) {
  Scanner scanner(pgdata, version_directory);
  scanner.ScanDirectory("", 0);
  return scanner.Take();
}

}  // namespace pbkfs::testsupport
