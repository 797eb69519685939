#include "service/clone_settings.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "fs/base/status.h"
#include "service/limits.h"

namespace pbkfs {
namespace {

constexpr int kAnyMajor = 0;
constexpr int kNoLastMajor = 1 << 20;

struct Guard {
  const char* name;
  const char* value;
  int first_major = kAnyMajor;    // The first major version that knows the name …
  int last_major = kNoLastMajor;  // … and the last one. An unknown name stops the server.
};

// Recovery settings became server settings in 12; before that they stand in recovery.conf, which a
// backup never has. recovery_target_timeline, _inclusive and _action take no empty value, so they
// get their defaults.
constexpr Guard kGuards[] = {
    {"archive_mode", "off"},
    {"archive_command", ""},
    {"archive_library", "", 15},
    {"archive_cleanup_command", "", 12},
    {"recovery_end_command", "", 12},
    {"restore_command", "", 12},
    {"recovery_target", "", 12},
    {"recovery_target_name", "", 12},
    {"recovery_target_time", "", 12},
    {"recovery_target_xid", "", 12},
    {"recovery_target_lsn", "", 12},
    {"recovery_target_inclusive", "on", 12},
    {"recovery_target_timeline", "latest", 12},
    {"recovery_target_action", "pause", 12},
    {"primary_conninfo", "", 12},
    {"primary_slot_name", "", 12},
    {"sync_replication_slots", "off", 17},
    {"synchronous_standby_names", ""},
    {"max_logical_replication_workers", "0", 10},
    {"external_pid_file", ""},
    {"stats_temp_directory", "pg_stat_tmp", kAnyMajor, 14},
    {"huge_pages", "try"},
    {"recovery_init_sync_method", "fsync", 14},
    {"cron.launch_active_jobs", "off"},
};

// Replication extensions whose workers connect out on their own, whatever the guards say.
constexpr absl::string_view kUnsafeLibraries[] = {"pglogical", "spock", "bdr", "repmgr"};

constexpr absl::string_view kMarker =
    "# pbkfs: this is a clone; these settings keep it away from production.";

std::vector<std::string> PreloadLibraries(const ServerConfig& config) {
  std::vector<std::string> names;
  for (const absl::string_view part :
       absl::StrSplit(config.Value("shared_preload_libraries"), ',', absl::SkipWhitespace())) {
    std::string name(absl::StripAsciiWhitespace(part));
    name.erase(std::remove(name.begin(), name.end(), '"'), name.end());
    const size_t slash = name.rfind('/');
    if (slash != std::string::npos) name.erase(0, slash + 1);
    if (absl::EndsWith(name, ".so")) name.resize(name.size() - 3);
    if (!name.empty()) names.push_back(name);
  }
  return names;
}

std::string SettingLines(const SettingList& settings) {
  std::string lines = absl::StrCat("\n", kMarker, "\n");
  for (const auto& [name, value] : settings) {
    // Both escapes are undone by PostgreSQL's parser: '' always, \\ inside quotes.
    absl::StrAppend(&lines, name, " = '", absl::StrReplaceAll(value, {{"'", "''"}, {"\\", "\\\\"}}),
                    "'\n");
  }
  return lines;
}

}  // namespace

SettingList CloneSettings(const CloneFacts& facts, const ServerConfig& config,
                          const std::map<std::string, std::string>& requested) {
  SettingList settings;
  for (const Guard& guard : kGuards) {
    if (facts.server_major < guard.first_major || facts.server_major > guard.last_major) continue;
    settings.emplace_back(guard.name, guard.value);
  }
  if (absl::StartsWith(config.Value("log_directory"), "/")) {
    settings.emplace_back("log_directory", "log");
  }
  // Servers before 10 do not know the name, and take directories without it.
  if (facts.tablespace_directories && facts.server_major >= 10) {
    settings.emplace_back(kInPlaceTablespaces, "on");
  }
  settings.insert(settings.end(), facts.recovery.begin(), facts.recovery.end());
  settings.insert(settings.end(), requested.begin(), requested.end());
  return settings;
}

absl::Status CheckCloneIsSafe(const ServerConfig& config,
                              const std::map<std::string, std::string>& requested) {
  if (requested.count("shared_preload_libraries") == 0) {
    for (const std::string& library : PreloadLibraries(config)) {
      for (const absl::string_view unsafe : kUnsafeLibraries) {
        if (library != unsafe) continue;
        return WithField(
            ReasonError(absl::StatusCode::kFailedPrecondition, reason::kCloneUnsafe,
                        absl::StrCat("shared_preload_libraries loads ", library,
                                     ", whose workers would connect to production; decide it in "
                                     "the request: --set shared_preload_libraries=…")),
            "shared_preload_libraries");
      }
    }
  }
  const auto data_directory = config.settings.find("data_directory");
  if (data_directory != config.settings.end() && !data_directory->second.value.empty() &&
      requested.count("data_directory") == 0) {
    return WithField(
        ReasonError(absl::StatusCode::kFailedPrecondition, reason::kCloneUnsafe,
                    absl::StrCat("data_directory = '", data_directory->second.value, "' in ",
                                 data_directory->second.file,
                                 " would start the server on that directory; decide it in the "
                                 "request: --set data_directory=TARGET")),
        "data_directory");
  }
  return absl::OkStatus();
}

std::vector<std::string> CloneWarnings(const ServerConfig& config) {
  std::vector<std::string> warnings;
  const std::vector<std::string> libraries = PreloadLibraries(config);
  if (!libraries.empty()) {
    std::string names;
    for (const std::string& name : libraries)
      absl::StrAppend(&names, names.empty() ? "" : ", ", name);
    warnings.push_back(absl::StrCat("shared_preload_libraries loads ", names,
                                    ": the server needs these modules, and they start with it"));
  }
  for (const char* name : {"archive_command", "primary_conninfo"}) {
    if (!config.Value(name).empty()) {
      warnings.push_back(absl::StrCat("the configuration has a production endpoint: ", name,
                                      " (switched off in the clone)"));
    }
  }
  for (const std::string& file : config.outside_includes) {
    warnings.push_back(absl::StrCat("the configuration includes '", file,
                                    "', which is not in the backup: what it sets is not known"));
  }
  return warnings;
}

std::string AppendToMainConfig(absl::string_view text, const SettingList& settings) {
  std::string out(text);
  if (!out.empty() && out.back() != '\n') out += '\n';
  return out + SettingLines(settings);
}

std::string RewriteAutoConfig(absl::string_view text, const SettingList& settings) {
  std::string out;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StrContains(line, "restore_command") || absl::StrContains(line, "recovery_target") ||
        (absl::StrContains(line, "include") &&
         absl::StrContains(line, "probackup_recovery.conf"))) {
      continue;
    }
    absl::StrAppend(&out, line, "\n");
  }
  // The split gives one empty piece after the last newline.
  if (absl::EndsWith(text, "\n") || text.empty()) out.pop_back();
  return out + SettingLines(settings);
}

std::vector<std::string> FormatSettings(const SettingList& settings) {
  std::vector<std::string> lines;
  for (const auto& [name, value] : settings) lines.push_back(absl::StrCat(name, "=", value));
  return lines;
}

SettingList ParseSettings(const std::vector<std::string>& lines) {
  SettingList settings;
  for (const std::string& line : lines) {
    const size_t equals = line.find('=');
    if (equals != std::string::npos) {
      settings.emplace_back(line.substr(0, equals), line.substr(equals + 1));
    }
  }
  return settings;
}

absl::Status CheckRequestedSetting(absl::string_view name, absl::string_view value) {
  const auto invalid = [&](absl::string_view why) {
    return WithField(ReasonError(absl::StatusCode::kInvalidArgument, reason::kInvalidField,
                                 absl::StrCat("settings: ", why)),
                     "settings");
  };
  bool valid =
      !name.empty() && !absl::ascii_isdigit(static_cast<unsigned char>(name[0])) && name[0] != '.';
  for (const char c : name) {
    valid = valid && (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.');
  }
  if (!valid) {
    return invalid(absl::StrCat("'", name, "' is not the name of a server setting"));
  }
  if (value.size() > kMaxSettingBytes) {
    return invalid(absl::StrCat(name, " is longer than ", kMaxSettingBytes, " bytes"));
  }
  for (const char c : value) {
    if (c == '\0' || c == '\n' || c == '\r') {
      return invalid(absl::StrCat(name,
                                  " holds a line break or a NUL, which a configuration file "
                                  "can't hold"));
    }
  }
  return absl::OkStatus();
}

std::string ShellQuote(absl::string_view text) {
  bool plain = !text.empty();
  for (const char c : text) {
    plain = plain && (absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                      absl::StrContains("_-./=:,@%+", absl::string_view(&c, 1)));
  }
  if (plain) return std::string(text);
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

std::string StartCommand(const std::string& target, const std::string& server_version,
                         const SettingList& settings) {
  // pg_ctl hands the text of -o to a second shell, so each argument is quoted for that one, and the
  // whole for the first.
  std::string arguments;
  for (const auto& [name, value] : settings) {
    absl::StrAppend(&arguments, arguments.empty() ? "" : " ", "-c ",
                    ShellQuote(absl::StrCat(name, "=", value)));
  }
  // Debian's place; elsewhere pg_ctl is expected on the PATH.
  std::string program = absl::StrCat("/usr/lib/postgresql/", server_version, "/bin/pg_ctl");
  if (access(program.c_str(), X_OK) != 0) program = "pg_ctl";
  return absl::StrCat(ShellQuote(program), " -D ", ShellQuote(target), " -l ",
                      ShellQuote(absl::StrCat(target, "/startup.log")), " -w -t ",
                      kStartTimeoutSeconds, " -o ", ShellQuote(arguments), " start");
}

}  // namespace pbkfs
