// What makes a clone harmless to the production that it came from (ARCHITECTURE.md, "harmless
// clones"): the server settings that every clone gets, how they are written into its configuration
// files, and the command that starts it. Pure functions; live_mount applies them once, when a diff
// is made.
#ifndef PBKFS_SERVICE_CLONE_SETTINGS_H_
#define PBKFS_SERVICE_CLONE_SETTINGS_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "service/server_config.h"

namespace pbkfs {

// Name and value, in the order in which they are written.
using SettingList = std::vector<std::pair<std::string, std::string>>;

// The setting that lets a server take directories for tablespaces.
inline constexpr char kInPlaceTablespaces[] = "allow_in_place_tablespaces";

struct CloneFacts {
  int server_major = 0;                 // 15, or 9 for 9.6.
  bool tablespace_directories = false;  // In pg_tblspc, where servers expect links.
  SettingList recovery;                 // Empty where the clone recovers from its own WAL.
};

// The guards, each only where the server knows the name, then the recovery, then `requested` sorted
// by name.
SettingList CloneSettings(const CloneFacts& facts, const ServerConfig& config,
                          const std::map<std::string, std::string>& requested);

// FAILED_PRECONDITION (CLONE_UNSAFE) where the guards would not be enough and `requested` does not
// decide.
absl::Status CheckCloneIsSafe(const ServerConfig& config,
                              const std::map<std::string, std::string>& requested);

// Things in the configuration that whoever starts the clone should know.
std::vector<std::string> CloneWarnings(const ServerConfig& config);

// `text` (postgresql.conf) with the settings as its last lines.
std::string AppendToMainConfig(absl::string_view text, const SettingList& settings);
// `text` (postgresql.auto.conf) as restore would leave it, with the settings at the end.
std::string RewriteAutoConfig(absl::string_view text, const SettingList& settings);

// "name=value" each: how a diff records its guards; and back. Lines without '=' are dropped.
std::vector<std::string> FormatSettings(const SettingList& settings);
SettingList ParseSettings(const std::vector<std::string>& lines);

// INVALID_ARGUMENT (INVALID_FIELD) for a name or value that can't stand in a configuration file.
absl::Status CheckRequestedSetting(absl::string_view name, absl::string_view value);

// The command line for a shell of the owner that starts PostgreSQL on `target` and waits for it.
// `server_version` as in backup.control: "15", "9.6".
std::string StartCommand(const std::string& target, const std::string& server_version,
                         const SettingList& settings);

// `text` as one word of sh.
std::string ShellQuote(absl::string_view text);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_CLONE_SETTINGS_H_
