// Reads PostgreSQL's configuration files as far as the control plane has to know what a server
// would do with them: the settings in force in postgresql.conf with its includes, then
// postgresql.auto.conf. Grammar as in PostgreSQL's guc-file.l: `name [=] value`, values plain or in
// single quotes, `#` comments, later lines win.
#ifndef PBKFS_SERVICE_SERVER_CONFIG_H_
#define PBKFS_SERVICE_SERVER_CONFIG_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pbkfs {

struct ConfigLine {
  std::string name;  // Lower case; "include", "include_if_exists" and "include_dir" for directives.
  std::string value;
};

// The assignments and directives of one file, in order. Lines that PostgreSQL would refuse are left
// out: the server itself will tell.
std::vector<ConfigLine> ParseConfigFile(absl::string_view text);

struct ServerSetting {
  std::string value;
  std::string file;  // Where the last assignment stands, relative to PGDATA.
};

struct ServerConfig {
  bool has_main_file = false;  // postgresql.conf is there.
  bool has_auto_file = false;  // postgresql.auto.conf is there.
  std::map<std::string, ServerSetting> settings;
  std::vector<std::string> outside_includes;  // Included files that are not in the backup.

  // The value in force in the files, "" where they do not set it.
  std::string Value(absl::string_view name) const;
};

// How the files of a data directory are read: paths are relative to PGDATA.
struct ConfigSource {
  // NOT_FOUND where there is no such file.
  std::function<absl::StatusOr<std::string>(const std::string& path)> read;
  // The names in a directory, sorted; empty where there is none.
  std::function<std::vector<std::string>(const std::string& path)> list;
};

// Bounded by limits.h. Files that can't be read (damage) fail the call; files that are missing do
// not.
absl::StatusOr<ServerConfig> LoadServerConfig(const ConfigSource& source);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_SERVER_CONFIG_H_
