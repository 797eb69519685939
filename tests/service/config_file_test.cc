#include "service/config_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "fs/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/config_check.h"
#include "service/config_defaults.h"
#include "service/config_memory.h"
#include "service/configuration.h"
#include "service/limits.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::string ErrorOf(const std::string& text) {
  const absl::Status status = ParseConfig(text, "f").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
  EXPECT_EQ(ReasonOf(status), reason::kInvalidField) << text;
  return std::string(status.message());
}

constexpr char kWhole[] = R"(# A comment.
listeners { address: "unix:/run/p.sock" mode: 432 group: "dba" }
metrics_address: "127.0.0.1:9999"
state_directory: "/srv/state"
allow_root: "/backup"
allow_root: "/"
callers { uid: 999 }
callers { certificate: "ci" owner { uid: 70 gid: 70 } }
callers { gid: 5 administrator: true }
limits { max_mounts: 10 max_connections: 20 max_concurrent_calls: 30 max_request_bytes: 100000 }
budgets { page_index_bytes: 1048576 page_cache_bytes: 2097152 }
defaults { materialize_on_read: true catalog_lock: CATALOG_LOCK_OFF threads: 4 diff_limit_bytes: 5 }
mounts {
  mount_id: "nightly" store: "/backup" instance: "main" target: "/srv/nightly"
  settings { key: "port" value: "5433" }
  recovery { name: "before" }
}
log_level: "warn"
log_format: "json"
stats_interval { seconds: 5 }
)";

TEST(ConfigFile, EveryFieldIsRead) {
  const absl::StatusOr<v1::DaemonConfig> config = ParseConfig(kWhole, "f");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->listeners(0).mode(), 0660u);
  EXPECT_THAT(config->allow_root(), ElementsAre("/backup", "/"));
  EXPECT_EQ(config->callers_size(), 3);
  EXPECT_EQ(config->mounts(0).settings().at("port"), "5433");
  EXPECT_TRUE(config->defaults().materialize_on_read());
  EXPECT_TRUE(ParseConfig("", "f").ok());
}

struct Wrong {
  const char* text;
  const char* place;  // "LINE:COLUMN: field", from 1.
  const char* help;   // What would be right.
};

TEST(ConfigFile, WhatIsWrongIsToldWithItsPlaceFieldAndRemedy) {
  const Wrong cases[] = {
      // The text.
      {"log_level: \"info\"\nlog_levle: \"info\"", "2:10: ", "log_level, log_format"},
      {"limits { max_mount: 3 }", "1:19: ", "there are max_mounts, max_connections"},
      {"limits {\n  max_mounts: many }", "2:15: max_mounts: ", "expected integer"},
      {"limits { max_mounts: -1 }", "1:22: max_mounts: ", "expected integer"},
      {"limits { max_mounts: 99999999999 }", "1:22: max_mounts: ", "out of range"},
      {"log_level: 3", "1:12: log_level: ", "expected string"},
      {"log_level: \"info\" log_level: \"warn\"", "1:28: ", "specified multiple times"},
      {"allow_root: \"/a", "1:16: ", "end of string"},
      {"limits { max_mounts: 3", "1:23: ", "expected"},
      {"defaults { catalog_lock: OFF }",
       "1:30: ", "must be CATALOG_LOCK_AUTO, CATALOG_LOCK_REQUIRED, CATALOG_LOCK_OFF"},
      {"callers { uid: 1 gid: 2 }", "1:21: ", "oneof"},
      // Values.
      {"listeners { address: \"tcp\" }", "1:13: listeners[0].address: ", "unix:PATH or HOST:PORT"},
      {"listeners { address: \"unix:p\" }", "1:13: listeners[0].address: ", "absolute"},
      {"listeners { mode: 8 }", "1:1: listeners[0].address: ", "unix:PATH or HOST:PORT"},
      {"listeners { address: \"unix:/p\" mode: 660 }", "1:32: listeners[0].mode: ", "decimal"},
      {"listeners { address: \"unix:/p\" }\nlisteners { address: \"unix:///p\" }",
       "2:13: listeners[1].address: ", "twice"},
      {"listeners { address: \"unix:/p\" tls { } }", "1:32: listeners[0].tls: ", "HOST:PORT"},
      {"listeners { address: \"0.0.0.0:1\" }", "1:1: listeners[0].tls: ", "certificate_file"},
      {"metrics_address: \"9467\"", "1:1: metrics_address: ", "HOST:PORT, or 'off'"},
      {"state_directory: \"here\"", "1:1: state_directory: ", "absolute"},
      {"allow_root: \"/a\"\nallow_root: \"/a/../b\"", "2:1: allow_root[1]: ", ".."},
      {"callers { administrator: true }", "1:1: callers[0]: ", "uid, gid or certificate"},
      {"callers { certificate: \"\" }", "1:11: callers[0].certificate: ", "name"},
      {"callers { uid: 5 owner { uid: 5 } }", "1:18: callers[0].owner: ", "certificates"},
      {"callers { certificate: \"x\" administrator: true owner { uid: 5 } }",
       "1:48: callers[0].owner: ", "administrator"},
      {"limits {\n\n max_mounts: 100000 }", "3:2: limits.max_mounts: ", "at most 1024"},
      {"limits { max_request_bytes: 1 }", "1:10: limits.max_request_bytes: ", "from 16384"},
      {"limits { max_connections: 4000000000 }", "1:10: limits.max_connections: ", "at most"},
      {"limits { max_concurrent_calls: 4000 }", "1:10: limits.max_concurrent_calls: ", "at most"},
      {"budgets { page_cache_bytes: 7 }", "1:11: budgets.page_cache_bytes: ", "from 1048576"},
      {"budgets { page_index_bytes: -7 }", "1:11: budgets.page_index_bytes: ", "from 1048576"},
      {"defaults { threads: 1000 }", "1:12: defaults.threads: ", "at most 256"},
      {"defaults { catalog_lock: 9 }", "1:12: defaults.catalog_lock: ", "CATALOG_LOCK_AUTO"},
      {"defaults { diff_limit_bytes: -1 }", "1:12: defaults.diff_limit_bytes: ", "negative"},
      {"log_level: \"loud\"", "1:1: log_level: ", "trace, debug, info, warn or error"},
      {"log_format: \"xml\"", "1:1: log_format: ", "text or json"},
      {"stats_interval { seconds: -1 }", "1:1: stats_interval: ", "to a year"},
      {"stats_interval { nanos: 1000000000 }", "1:1: stats_interval: ", "to a year"},
      {"allow_root: \"/\\377\"", "1:1: allow_root[0]: ", "UTF-8"},
      {"mounts { store: \"/b\" instance: \"i\" }", "1:1: mounts[0].target: ", "missing"},
      {"mounts { store: \"b\" instance: \"i\" target: \"/t\" }",
       "1:10: mounts[0].store: ", "absolute"},
      {"mounts { store: \"/b\" instance: \"i\" target: \"/t\" validate_only: true }",
       "1:49: mounts[0].validate_only: ", "take it away"},
      {"mounts { store: \"/b\" instance: \"i\" target: \"/t\"\n"
       "settings { key: \"a b\" value: \"v\" } }",
       "2:1: mounts[0].settings: ", "not the name"},
      {"mounts { store: \"/b\" instance: \"i\" target: \"/t\" recovery { action: \"x\" } }",
       "1:49: mounts[0].recovery: ", "name a target"},
      {"mounts { store: \"/b\" instance: \"i\" target: \"/t\" }\n"
       "mounts { store: \"/b\" instance: \"i\" target: \"/x\" mount_id: \"t\" }",
       "2:49: mounts[1].mount_id: ", "mounts[0]"},
      {"mounts { store: \"/b\" instance: \"i\" target: \"/t\" }\n"
       "mounts { store: \"/b\" instance: \"i\" target: \"/t/\" mount_id: \"x\" }",
       "2:36: mounts[1].target: ", "mounts[0]"},
  };
  for (const Wrong& wrong : cases) {
    const std::string error = ErrorOf(wrong.text);
    EXPECT_THAT(error, HasSubstr(std::string("f:") + wrong.place)) << wrong.text;
    EXPECT_THAT(error, HasSubstr(wrong.help)) << wrong.text;
  }
}

TEST(ConfigFile, AllProblemsAreToldAtOnceUpToALimit) {
  EXPECT_THAT(ErrorOf("log_level: \"x\"\nlog_format: \"y\""),
              testing::AllOf(HasSubstr("f:1:1: log_level"), HasSubstr("\nf:2:1: log_format")));
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "allow_root: \"x\"\n";
  const std::string error = ErrorOf(many);
  EXPECT_THAT(error, HasSubstr("there is more"));
  EXPECT_LT(error.size(), 5000u);
}

TEST(ConfigFile, NoErrorShowsAValueThatMayBeSecret) {
  for (const char* text : {"mounts { settings { key: \"x\" value: topsecret } }",
                           "mounts { settings { key: \"x\" value topsecret } }",
                           "mounts { settings { key: \"x\" value: \"a\\ntopsecret\" } }",
                           "mounts { settings: topsecret }"}) {
    EXPECT_THAT(ErrorOf(text), Not(HasSubstr("topsecret"))) << text;
  }
}

TEST(ConfigFile, IsReadFromTheDiskWithinBounds) {
  const testsupport::TemporaryDirectory directory;
  const std::string path = directory.path() + "/pbkfsd.conf";
  EXPECT_THAT(ReadConfigFile(path).status().message(), HasSubstr(path));
  EXPECT_EQ(ReasonOf(ReadConfigFile(path).status()), reason::kInvalidField);
  EXPECT_FALSE(ReadConfigFile(directory.path()).ok());
  std::ofstream(path) << "log_level: \"warn\"";
  EXPECT_EQ(ReadConfigFile(path)->log_level(), "warn");
  std::ofstream(path) << std::string(kMaxConfigBytes, '#');
  EXPECT_TRUE(ReadConfigFile(path).ok());
  std::ofstream(path) << std::string(kMaxConfigBytes + 1, '#');
  EXPECT_THAT(ReadConfigFile(path).status().message(), HasSubstr("longer than"));
}

TEST(Configuration, DefaultsAreTheDocumentedOnes) {
  unsetenv("PBKFS_MATERIALIZE_ON_READ");
  const v1::DaemonConfig config = WithDefaults({});
  EXPECT_THAT(SocketPaths(config), ElementsAre("/run/pbkfs/pbkfsd.sock"));
  EXPECT_EQ(config.metrics_address(), "");
  EXPECT_EQ(config.state_directory(), "/var/lib/pbkfs");
  EXPECT_EQ(config.limits().max_mounts(), 256u);
  EXPECT_EQ(config.limits().max_connections(), 256u);
  EXPECT_EQ(config.limits().max_concurrent_calls(), 64u);
  EXPECT_EQ(config.limits().max_request_bytes(), 1u << 20);
  EXPECT_FALSE(config.defaults().materialize_on_read());
  EXPECT_EQ(config.defaults().threads(), 8u);
  EXPECT_EQ(config.defaults().catalog_lock(), v1::CATALOG_LOCK_AUTO);
  EXPECT_EQ(config.log_level(), "info");
  EXPECT_EQ(config.log_format(), "text");
  EXPECT_EQ(config.stats_interval().seconds(), 60);
  EXPECT_TRUE(CheckConfig(config).empty());
}

TEST(Configuration, TheEnvironmentDecidesOnlyWhatTheFileLeavesOpen) {
  setenv("PBKFS_MATERIALIZE_ON_READ", "true", 1);
  EXPECT_TRUE(WithDefaults({}).defaults().materialize_on_read());
  v1::DaemonConfig config;
  config.mutable_defaults()->set_materialize_on_read(false);
  EXPECT_FALSE(WithDefaults(config).defaults().materialize_on_read());
  setenv("PBKFS_MATERIALIZE_ON_READ", "0", 1);
  EXPECT_FALSE(WithDefaults({}).defaults().materialize_on_read());
  config.mutable_defaults()->set_materialize_on_read(true);
  EXPECT_TRUE(WithDefaults(config).defaults().materialize_on_read());
  unsetenv("PBKFS_MATERIALIZE_ON_READ");
}

TEST(Configuration, TheCommandLineWinsOverTheFileAndListsAddUp) {
  const testsupport::TemporaryDirectory directory;
  const std::string path = directory.path() + "/pbkfsd.conf";
  std::ofstream(path) << kWhole;
  const auto load = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"--config", path});
    return LoadConfiguration(*ParseDaemonOptions(arguments));
  };
  absl::StatusOr<v1::DaemonConfig> config = load({});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->log_level(), "warn");
  EXPECT_EQ(config->stats_interval().seconds(), 5);

  config = load({"--listen", "unix:/other.sock", "--allow-root", "/srv", "--log-level", "debug",
                 "--log-format", "text", "--stats-interval", "0", "--metrics", "off", "--state-dir",
                 "/elsewhere"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(SocketPaths(*config), ElementsAre("/run/p.sock", "/other.sock"));
  EXPECT_THAT(config->allow_root(), ElementsAre("/backup", "/", "/srv"));
  EXPECT_EQ(config->log_level(), "debug");
  EXPECT_EQ(config->log_format(), "text");
  EXPECT_EQ(config->stats_interval().seconds(), 0);
  EXPECT_EQ(config->metrics_address(), "off");
  EXPECT_EQ(config->state_directory(), "/elsewhere");
  EXPECT_EQ(config->limits().max_mounts(), 10u);

  // Both are right by themselves.
  EXPECT_THAT(load({"--listen", "unix:/run/p.sock"}).status().message(),
              testing::AllOf(HasSubstr("listeners[1].address"), HasSubstr("twice")));
}

TEST(ConfigMemory, HoldsTheLastConfigurationThatWasWrittenWhole) {
  v1::DaemonConfig config;
  config.set_log_level("first");
  const absl::StatusOr<ConfigMemory> memory = ConfigMemory::Create(config);
  ASSERT_TRUE(memory.ok()) << memory.status();
  const ConfigMemory other = ConfigMemory::Adopt(dup(memory->descriptor()));
  EXPECT_EQ(other.Read()->log_level(), "first");
  for (const std::string& level :
       {std::string("second"), std::string(100000, 'x'), std::string()}) {
    config.set_log_level(level);
    ASSERT_TRUE(memory->Write(config).ok());
    EXPECT_EQ(other.Read()->log_level(), level);
  }
  config.set_log_level(std::string(40 << 20, 'x'));
  EXPECT_FALSE(memory->Write(config).ok());
  EXPECT_EQ(other.Read()->log_level(), "");
  // Programs inherit it until it is made private.
  EXPECT_EQ(fcntl(memory->descriptor(), F_GETFD) & FD_CLOEXEC, 0);
  other.KeepPrivate();
  EXPECT_NE(fcntl(other.descriptor(), F_GETFD) & FD_CLOEXEC, 0);
}

}  // namespace
}  // namespace pbkfs
