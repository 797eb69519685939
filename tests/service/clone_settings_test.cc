#include "service/clone_settings.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fs/base/status.h"
#include "gtest/gtest.h"

namespace pbkfs {
namespace {

ServerConfig ConfigWith(const std::map<std::string, std::string>& settings) {
  ServerConfig config;
  for (const auto& [name, value] : settings) {
    config.settings[name] = ServerSetting{value, "postgresql.conf"};
  }
  return config;
}

std::map<std::string, std::string> AsMap(const SettingList& settings) {
  return std::map<std::string, std::string>(settings.begin(), settings.end());
}

SettingList SettingsOfMajor(int major) {
  CloneFacts facts;
  facts.server_major = major;
  return CloneSettings(facts, ServerConfig(), {});
}

// What a shell makes of `command`, one argument a line.
std::vector<std::string> ShellWords(const std::string& arguments) {
  FILE* pipe = popen(absl::StrCat("printf '%s\\n' ", arguments).c_str(), "r");
  std::string text;
  char buffer[4096];
  size_t count = 0;
  while ((count = fread(buffer, 1, sizeof(buffer), pipe)) > 0) text.append(buffer, count);
  EXPECT_EQ(pclose(pipe), 0);
  if (!text.empty()) text.pop_back();
  return absl::StrSplit(text, '\n');
}

TEST(CloneSettings, EveryCloneIsCutOffFromArchiveAndReplication) {
  const auto settings = AsMap(SettingsOfMajor(15));
  const std::map<std::string, std::string> expected = {
      {"archive_mode", "off"},
      {"archive_command", ""},
      {"archive_library", ""},
      {"archive_cleanup_command", ""},
      {"recovery_end_command", ""},
      {"restore_command", ""},
      {"recovery_target", ""},
      {"recovery_target_name", ""},
      {"recovery_target_time", ""},
      {"recovery_target_xid", ""},
      {"recovery_target_lsn", ""},
      {"recovery_target_inclusive", "on"},
      {"recovery_target_timeline", "latest"},
      {"recovery_target_action", "pause"},
      {"primary_conninfo", ""},
      {"primary_slot_name", ""},
      {"synchronous_standby_names", ""},
      {"max_logical_replication_workers", "0"},
      {"external_pid_file", ""},
      {"huge_pages", "try"},
      {"recovery_init_sync_method", "fsync"},
      {"cron.launch_active_jobs", "off"},
  };
  EXPECT_EQ(settings, expected);
}

TEST(CloneSettings, OnlyNamesThatTheServerKnowsAreSet) {
  const auto v96 = AsMap(SettingsOfMajor(9));
  EXPECT_EQ(v96.count("restore_command"), 0u);
  EXPECT_EQ(v96.count("recovery_target_timeline"), 0u);
  EXPECT_EQ(v96.count("max_logical_replication_workers"), 0u);
  EXPECT_EQ(v96.count("stats_temp_directory"), 1u);
  const auto v13 = AsMap(SettingsOfMajor(13));
  EXPECT_EQ(v13.count("restore_command"), 1u);
  EXPECT_EQ(v13.count("archive_library"), 0u);
  EXPECT_EQ(v13.count("recovery_init_sync_method"), 0u);
  const auto v14 = AsMap(SettingsOfMajor(14));
  EXPECT_EQ(v14.count("stats_temp_directory"), 1u);
  EXPECT_EQ(v14.count("recovery_init_sync_method"), 1u);
  const auto v17 = AsMap(SettingsOfMajor(17));
  EXPECT_EQ(v17.count("sync_replication_slots"), 1u);
  EXPECT_EQ(v17.count("stats_temp_directory"), 0u);
}

TEST(CloneSettings, LogDirectoryIsSetOnlyWhereItIsAbsolute) {
  CloneFacts facts;
  facts.server_major = 15;
  const auto absolute =
      AsMap(CloneSettings(facts, ConfigWith({{"log_directory", "/var/log"}}), {}));
  EXPECT_EQ(absolute.at("log_directory"), "log");
  const auto relative = AsMap(CloneSettings(facts, ConfigWith({{"log_directory", "pg_log"}}), {}));
  EXPECT_EQ(relative.count("log_directory"), 0u);
}

TEST(CloneSettings, RequestedSettingsFollowTheGuardsSortedByName) {
  CloneFacts facts;
  facts.server_major = 15;
  facts.tablespace_directories = true;
  const SettingList settings =
      CloneSettings(facts, ServerConfig(), {{"work_mem", "1MB"}, {"port", "5433"}});
  ASSERT_GE(settings.size(), 3u);
  EXPECT_EQ(settings[settings.size() - 3].first, "allow_in_place_tablespaces");
  EXPECT_EQ(settings[settings.size() - 2].first, "port");
  EXPECT_EQ(settings[settings.size() - 1].first, "work_mem");
}

TEST(CloneSettings, RecoveryStandsBetweenTheGuardsAndTheRequest) {
  CloneFacts facts;
  facts.server_major = 15;
  facts.recovery = {{"recovery_target_name", "rp"}, {"restore_command", "cp"}};
  const SettingList settings = CloneSettings(facts, ServerConfig(), {{"restore_command", "mine"}});
  ASSERT_GE(settings.size(), 3u);
  EXPECT_EQ(settings[settings.size() - 3].first, "recovery_target_name");
  EXPECT_EQ(settings[settings.size() - 2].second, "cp");
  EXPECT_EQ(settings[settings.size() - 1].second, "mine");
}

TEST(CloneSettings, ReplicationExtensionsAreRefusedUnlessTheRequestDecides) {
  const ServerConfig config =
      ConfigWith({{"shared_preload_libraries", "pg_stat_statements, \"$libdir/pglogical.so\""}});
  const absl::Status status = CheckCloneIsSafe(config, {});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(status), "CLONE_UNSAFE");
  EXPECT_TRUE(CheckCloneIsSafe(config, {{"shared_preload_libraries", ""}}).ok());
  EXPECT_TRUE(
      CheckCloneIsSafe(ConfigWith({{"shared_preload_libraries", "pg_stat_statements"}}), {}).ok());
}

TEST(CloneSettings, ADataDirectoryElsewhereIsRefusedUnlessTheRequestDecides) {
  const ServerConfig config = ConfigWith({{"data_directory", "/var/lib/postgresql/15/main"}});
  EXPECT_EQ(ReasonOf(CheckCloneIsSafe(config, {})), "CLONE_UNSAFE");
  EXPECT_TRUE(CheckCloneIsSafe(config, {{"data_directory", "/srv/a"}}).ok());
}

TEST(CloneSettings, AppendedLinesWinAndSurviveQuoting) {
  const std::string text = AppendToMainConfig("archive_mode = on\nport = 1",
                                              {{"archive_mode", "off"}, {"x.y", "it's \\n"}});
  EXPECT_EQ(text.substr(0, 26), "archive_mode = on\nport = 1");
  const std::vector<ConfigLine> lines = ParseConfigFile(text);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[2].name, "archive_mode");
  EXPECT_EQ(lines[2].value, "off");
  EXPECT_EQ(lines[3].name, "x.y");
  EXPECT_EQ(lines[3].value, "it's \\n");
}

TEST(CloneSettings, AutoConfLosesWhatRestoreWouldDrop) {
  const std::string text = RewriteAutoConfig(
      "work_mem = '4MB'\n"
      "restore_command = 'cp x y'\n"
      "recovery_target_time = '2020'\n"
      "include 'probackup_recovery.conf'\n"
      "port = 7\n",
      {{"archive_mode", "off"}});
  EXPECT_EQ(text.find("cp x y"), std::string::npos);
  EXPECT_EQ(text.find("2020"), std::string::npos);
  EXPECT_EQ(text.find("probackup_recovery"), std::string::npos);
  EXPECT_EQ(text.substr(0, 26), "work_mem = '4MB'\nport = 7\n");
  EXPECT_EQ(text.substr(text.size() - 21), "archive_mode = 'off'\n");
  EXPECT_EQ(RewriteAutoConfig("", {{"a", "b"}}).substr(0, 2), "\n#");
}

TEST(CloneSettings, RecordedSettingsComeBack) {
  const SettingList settings = {{"a", ""}, {"b.c", "x=y"}};
  EXPECT_EQ(ParseSettings(FormatSettings(settings)), settings);
}

TEST(CloneSettings, SettingsThatCannotStandInAFileAreRefused) {
  EXPECT_TRUE(CheckRequestedSetting("shared_buffers", "1GB").ok());
  EXPECT_TRUE(CheckRequestedSetting("pg_stat.max_1", "it's").ok());
  for (const char* name : {"", "1a", ".a", "a b", "a-b", "a'"}) {
    EXPECT_EQ(ReasonOf(CheckRequestedSetting(name, "x")), "INVALID_FIELD") << name;
  }
  EXPECT_FALSE(CheckRequestedSetting("a", "x\ny").ok());
  EXPECT_FALSE(CheckRequestedSetting("a", std::string("x\0y", 3)).ok());
}

TEST(StartCommand, SurvivesBothShells) {
  const std::string nasty = "it's \"$HOME\" `id` \\ *";
  const std::string command =
      StartCommand("/srv/my clones/it's", "0.0", {{"archive_command", ""}, {"x.y", nasty}});
  const std::vector<std::string> outer = ShellWords(command);
  const std::vector<std::string> expected_head = {
      "pg_ctl", "-D", "/srv/my clones/it's", "-l", "/srv/my clones/it's/startup.log", "-w", "-t",
      "3600",   "-o"};
  ASSERT_EQ(outer.size(), expected_head.size() + 2);
  EXPECT_EQ(std::vector<std::string>(outer.begin(), outer.end() - 2), expected_head);
  EXPECT_EQ(outer.back(), "start");
  // pg_ctl gives the argument of -o to a second shell.
  const std::vector<std::string> inner = ShellWords(outer[outer.size() - 2]);
  const std::vector<std::string> expected = {"-c", "archive_command=", "-c", "x.y=" + nasty};
  EXPECT_EQ(inner, expected);
}

}  // namespace
}  // namespace pbkfs
