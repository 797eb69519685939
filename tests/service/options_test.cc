#include "service/options.h"

#include "gtest/gtest.h"

namespace pbkfs {
namespace {

TEST(DaemonOptions, DefaultsAreTheDocumentedOnes) {
  const auto options = ParseDaemonOptions({});
  ASSERT_TRUE(options.ok());
  ASSERT_EQ(options->listen_paths.size(), 1u);
  EXPECT_EQ(options->listen_paths[0], "/run/pbkfs/pbkfsd.sock");
  EXPECT_EQ(options->metrics_address, "127.0.0.1:9467");
  EXPECT_FALSE(options->metrics_required);
  EXPECT_EQ(options->state_directory, "/var/lib/pbkfs");
  EXPECT_EQ(options->stats_interval, absl::Seconds(60));
}

TEST(DaemonOptions, RepeatedFlagsAddUpAndBothFormsOfValuesWork) {
  const auto options = ParseDaemonOptions(
      {"--listen", "unix:/a", "--listen=unix:/b", "--allow-root", "/x", "--allow-root=/y",
       "--no-keeper", "--stats-interval", "5m", "--log-format=json", "--metrics", "off"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->listen_paths, (std::vector<std::string>{"/a", "/b"}));
  EXPECT_EQ(options->allowed_roots, (std::vector<std::string>{"/x", "/y"}));
  EXPECT_EQ(options->stats_interval, absl::Minutes(5));
  EXPECT_EQ(options->log_format, LogFormat::kJson);
  EXPECT_EQ(options->metrics_address, "");
}

TEST(DaemonOptions, WhatIsWrongIsRefused) {
  const std::vector<std::vector<std::string>> wrong = {{"--frobnicate"},
                                                       {"extra"},
                                                       {"--listen"},
                                                       {"--listen", "0.0.0.0:1"},
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
