#include "service/options.h"

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/configuration.h"
#include "service/proto_convert.h"

namespace pbkfs {
namespace {

TEST(DaemonOptions, NothingIsGivenByItself) {
  const auto options = ParseDaemonOptions({});
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->given.ByteSizeLong(), 0u);
  EXPECT_EQ(options->config_file, "");
}

TEST(DaemonOptions, TheFileOfTheConfigurationGetsAnAbsolutePath) {
  EXPECT_EQ(ParseDaemonOptions({"--config", "/etc/pbkfsd.conf"})->config_file, "/etc/pbkfsd.conf");
  EXPECT_EQ(ParseDaemonOptions({"--config=x"})->config_file, std::filesystem::current_path() / "x");
  EXPECT_FALSE(ParseDaemonOptions({"--config", ""}).ok());
}

TEST(DaemonOptions, RepeatedFlagsAddUpAndBothFormsOfValuesWork) {
  const auto options = ParseDaemonOptions(
      {"--listen", "unix:/a", "--listen=unix:/b", "--allow-root", "/x", "--allow-root=/y",
       "--no-keeper", "--stats-interval", "5m", "--log-format=json", "--metrics", "off"});
  ASSERT_TRUE(options.ok()) << options.status();
  const v1::DaemonConfig& given = options->given;
  EXPECT_EQ(SocketPaths(given), (std::vector<std::string>{"/a", "/b"}));
  EXPECT_THAT(given.allow_root(), testing::ElementsAre("/x", "/y"));
  EXPECT_EQ(FromProto(given.stats_interval()), absl::Minutes(5));
  EXPECT_EQ(given.log_format(), "json");
  EXPECT_EQ(given.metrics_address(), "off");
}

TEST(DaemonOptions, WhatIsWrongIsRefused) {
  const std::vector<std::vector<std::string>> wrong = {{"--frobnicate"},
                                                       {"extra"},
                                                       {"--listen"},
                                                       {"--listen", "0.0.0.0"},
                                                       {"--log-level", "loud"},
                                                       {"--metrics", "x"},
                                                       {"--state-dir", "relative"},
                                                       {"--stats-interval", "-1"},
                                                       {"--log-format", "xml"},
                                                       {"--listen", "unix:relative"}};
  for (const auto& arguments : wrong) {
    EXPECT_EQ(ParseDaemonOptions(arguments).status().code(), absl::StatusCode::kInvalidArgument)
        << arguments[0];
  }
}

}  // namespace
}  // namespace pbkfs
