#include "service/server_config.h"

#include <map>
#include <string>

#include "gtest/gtest.h"

namespace pbkfs {
namespace {

// A data directory in memory.
ConfigSource SourceOf(const std::map<std::string, std::string>& files) {
  ConfigSource source;
  source.read = [files](const std::string& path) -> absl::StatusOr<std::string> {
    const auto it = files.find(path);
    if (it == files.end()) return absl::NotFoundError(path);
    return it->second;
  };
  source.list = [files](const std::string& path) {
    std::vector<std::string> names;
    for (const auto& [name, text] : files) {
      if (name.rfind(path + "/", 0) == 0) names.push_back(name.substr(path.size() + 1));
    }
    return names;
  };
  return source;
}

TEST(ServerConfig, LastAssignmentWinsAndAutoConfComesAfter) {
  const auto config = LoadServerConfig(SourceOf(
      {{"postgresql.conf", "port = 1\nPORT 2 # comment\nlog_directory = 'it''s' # x\n#a = 1\n"},
       {"postgresql.auto.conf", "work_mem = '4MB'\n"}}));
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->Value("port"), "2");
  EXPECT_EQ(config->Value("log_directory"), "it's");
  EXPECT_EQ(config->Value("work_mem"), "4MB");
  EXPECT_EQ(config->Value("a"), "");
  EXPECT_TRUE(config->has_main_file);
}

TEST(ServerConfig, IncludesAreFollowedInsideTheBackupAndNamedOutside) {
  const auto config = LoadServerConfig(SourceOf({
      {"postgresql.conf",
       "include 'conf/a.conf'\ninclude_dir 'conf.d'\ninclude '/etc/postgresql/x.conf'\n"
       "include_if_exists '../../out.conf'\n"},
      {"conf/a.conf", "data_directory = '/prod'\ninclude 'b.conf'\n"},
      {"conf/b.conf", "b = 1\n"},
      {"conf.d/1.conf", "c = 1\n"},
      {"conf.d/2.conf", "c = 2\n"},
      {"conf.d/README", "c = 3\n"},
  }));
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->Value("data_directory"), "/prod");
  EXPECT_EQ(config->settings.at("data_directory").file, "conf/a.conf");
  EXPECT_EQ(config->Value("b"), "1");
  EXPECT_EQ(config->Value("c"), "2");
  EXPECT_EQ(config->outside_includes.size(), 2u);
}

TEST(ServerConfig, AFileThatIncludesItselfEnds) {
  const auto config = LoadServerConfig(SourceOf({{"postgresql.conf",
                                                  "a = 1\ninclude 'postgresql.conf'\n"
                                                  "include 'postgresql.conf'\n"}}));
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->Value("a"), "1");
}

TEST(ServerConfig, MissingFilesAreNoError) {
  const auto config = LoadServerConfig(SourceOf({}));
  ASSERT_TRUE(config.ok());
  EXPECT_FALSE(config->has_main_file);
  EXPECT_FALSE(config->has_auto_file);
}

}  // namespace
}  // namespace pbkfs
