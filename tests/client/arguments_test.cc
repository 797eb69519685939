#include "client/arguments.h"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs::client {
namespace {

absl::StatusOr<Arguments> Parse(const std::vector<std::string>& words,
                                const std::string& environment = "") {
  return ParseArguments(words, environment);
}

TEST(Arguments, GlobalOptionsMayStandAnywhere) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"-o", "json", "list"},
                                                {"list", "-o", "json"},
                                                {"list", "-ojson"},
                                                {"--output=json", "list"}}) {
    const auto arguments = Parse(words);
    ASSERT_TRUE(arguments.ok()) << arguments.status();
    EXPECT_EQ(arguments->command, "list");
    EXPECT_TRUE(arguments->json);
  }
}

TEST(Arguments, AddressesComeFromFlagThenEnvironmentThenDefault) {
  EXPECT_EQ(Parse({"list"})->address, "unix:/run/pbkfs/pbkfsd.sock");
  EXPECT_EQ(Parse({"list"}, "/x.sock")->address, "unix:/x.sock");
  EXPECT_EQ(Parse({"list", "--address", "unix:/y"}, "/x.sock")->address, "unix:/y");
  EXPECT_EQ(Parse({"list", "--address", "host:1"})->address, "host:1");
  for (const char* address : {"host", "host:", ":1", "host:0", "host:65536", "host:x"}) {
    EXPECT_FALSE(Parse({"list", "--address", address}).ok()) << address;
  }
}

TEST(Arguments, WhatDoesNotFitIsRefused) {
  const std::vector<std::vector<std::string>> wrong = {{"frob"},
                                                       {"list", "extra"},
                                                       {"list", "--store", "/x"},
                                                       {"mount", "--nope"},
                                                       {"mount", "--set"},
                                                       {"unmount", "a", "b"},
                                                       {"list", "-o", "xml"},
                                                       {"list", "-x"},
                                                       {"mount", "--read-only=yes"}};
  for (const auto& words : wrong) {
    EXPECT_EQ(Parse(words).status().code(), absl::StatusCode::kInvalidArgument) << words.back();
  }
}

TEST(Arguments, WhatIsNotUtf8IsRefusedByName) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"unmount", "caf\xe9"}, {"mount", "--target", "/caf\xe9"}}) {
    const auto arguments = Parse(words);
    ASSERT_EQ(arguments.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(arguments.status().message().find("caf\\xe9"), absl::string_view::npos)
        << arguments.status();
  }
  EXPECT_TRUE(Parse({"unmount", "caf\xc3\xa9"}).ok());
}

TEST(MountRequest, APathThatIsNotUtf8InAllIsRefusedByName) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"mount", "--store", "backup", "--instance", "i", "--target", "/t"},
        {"mount", "--store", "/b", "--instance", "i", "--target", "t"},
        {"mount", "--store", "/b", "--instance", "i", "--target", "/t", "--diff", "d"}}) {
    const auto arguments = Parse(words);
    ASSERT_TRUE(arguments.ok()) << arguments.status();
    const auto request = MountRequestOf(*arguments, "/caf\xe9");
    ASSERT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(request.status().message().find("/caf\\xe9/"), absl::string_view::npos)
        << request.status();
    EXPECT_TRUE(MountRequestOf(*arguments, "/caf\xc3\xa9").ok());
  }
  EXPECT_FALSE(UnmountRequestOf(*Parse({"unmount", "./t"}), "/caf\xe9").ok());
  EXPECT_TRUE(UnmountRequestOf(*Parse({"unmount", "/t"}), "/caf\xe9").ok());
}

TEST(MountRequest, PathsAreWalkedAsTheKernelDoes) {
  const testsupport::TemporaryDirectory temporary;
  const std::string directory = std::filesystem::canonical(temporary.path());
  std::filesystem::create_directories(directory + "/real/sub");
  std::filesystem::create_symlink("real/sub", directory + "/link");
  const std::pair<std::string, std::string> paths[] = {
      {"link/../store", "/real/store"},
      {"link/./store/", "/link/store"},
      {"../x/../" + std::filesystem::path(directory).filename().string() + "/store", "/store"},
      {"nothing/../store", "/store"}};
  for (const auto& [path, expected] : paths) {
    const auto arguments = Parse({"mount", "--store", path, "--instance", "i", "--target", "/t"});
    ASSERT_TRUE(arguments.ok()) << arguments.status();
    EXPECT_EQ(MountRequestOf(*arguments, directory)->store(), directory + expected) << path;
  }
}

TEST(MountRequest, EveryFlagReachesTheRequest) {
  const auto arguments = Parse({"mount",
                                "--store",
                                "backup",
                                "--instance",
                                "main",
                                "--backup",
                                "TOW2HK",
                                "--target",
                                "clones/../a/",
                                "--diff",
                                "/d",
                                "--id",
                                "x",
                                "--owner",
                                "101:7",
                                "--read-only",
                                "--materialize-on-read",
                                "--ephemeral",
                                "--restore",
                                "--diff-limit",
                                "10GiB",
                                "--threads",
                                "4",
                                "--force",
                                "--catalog-lock",
                                "required",
                                "--tablespaces",
                                "symlink",
                                "--recovery-target",
                                "xid=7",
                                "--recovery-timeline",
                                "2",
                                "--recovery-action",
                                "pause",
                                "--recovery-exclusive",
                                "--allow-tablespace-wal",
                                "--set",
                                "port=5433",
                                "--set",
                                "a.b=c=d",
                                "--default-config",
                                "--dry-run"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  const auto request = MountRequestOf(*arguments, "/home/me");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->store(), "/home/me/backup");
  EXPECT_EQ(request->target(), "/home/me/a");
  EXPECT_EQ(request->diff_dir(), "/d");
  EXPECT_EQ(request->instance(), "main");
  EXPECT_EQ(request->backup_id(), "TOW2HK");
  EXPECT_EQ(request->mount_id(), "x");
  EXPECT_EQ(request->owner().uid(), 101u);
  EXPECT_EQ(request->owner().gid(), 7u);
  EXPECT_TRUE(request->read_only());
  EXPECT_TRUE(request->materialize_on_read());
  EXPECT_TRUE(request->ephemeral());
  EXPECT_TRUE(request->restore());
  EXPECT_EQ(request->diff_limit_bytes(), int64_t{10} << 30);
  EXPECT_EQ(request->threads(), 4u);
  EXPECT_TRUE(request->allow_tablespace_wal());
  EXPECT_TRUE(request->recovery().has_inclusive());
  EXPECT_FALSE(request->recovery().inclusive());
  EXPECT_TRUE(request->force());
  EXPECT_EQ(request->catalog_lock(), v1::CATALOG_LOCK_REQUIRED);
  EXPECT_EQ(request->tablespaces(), v1::TABLESPACE_MODE_SYMLINK);
  EXPECT_EQ(request->recovery().xid(), 7u);
  EXPECT_EQ(request->recovery().timeline(), "2");
  EXPECT_EQ(request->recovery().action(), "pause");
  EXPECT_EQ(request->settings().at("port"), "5433");
  EXPECT_EQ(request->settings().at("a.b"), "c=d");
  EXPECT_TRUE(request->default_config());
  EXPECT_TRUE(request->validate_only());
}

TEST(MountRequest, WhatIsNotGivenStaysUnset) {
  const auto request =
      MountRequestOf(*Parse({"mount", "--store", "/s", "--instance", "i", "--target", "/t"}), "/");
  ASSERT_TRUE(request.ok());
  EXPECT_FALSE(request->has_materialize_on_read());
  EXPECT_FALSE(request->has_owner());
  EXPECT_FALSE(request->has_recovery());
  EXPECT_EQ(request->diff_dir(), "");
  EXPECT_FALSE(MountRequestOf(*Parse({"mount", "--store", "/s", "--target", "/t"}), "/").ok());
  EXPECT_FALSE(MountRequestOf(*Parse({"mount", "--store", "/s", "--instance", "i", "--target", "/t",
                                      "--recovery-action", "pause"}),
                              "/")
                   .ok());
}

TEST(UnmountRequest, ASlashMakesATarget) {
  const auto by_id = UnmountRequestOf(*Parse({"unmount", "a", "--wait", "1.5"}), "/home");
  ASSERT_TRUE(by_id.ok());
  EXPECT_EQ(by_id->mount_id(), "a");
  EXPECT_EQ(by_id->wait().seconds(), 1);
  EXPECT_EQ(by_id->wait().nanos(), 500000000);
  const auto by_target =
      UnmountRequestOf(*Parse({"unmount", "./a", "--force", "--delete-diff"}), "/home");
  ASSERT_TRUE(by_target.ok());
  EXPECT_EQ(by_target->target(), "/home/a");
  EXPECT_TRUE(by_target->force());
  EXPECT_TRUE(by_target->delete_diff());
  EXPECT_FALSE(UnmountRequestOf(*Parse({"unmount"}), "/").ok());
}

TEST(DiffCommands, AreTwoWordsAndASlashMakesAPath) {
  const auto check = Parse({"diff", "-o", "json", "check", "a", "--repair"});
  ASSERT_TRUE(check.ok()) << check.status();
  EXPECT_EQ(check->command, "diff-check");
  const auto by_id = CheckDiffRequestOf(*check, "/home");
  ASSERT_TRUE(by_id.ok());
  EXPECT_EQ(by_id->mount_id(), "a");
  EXPECT_TRUE(by_id->repair());
  const auto by_path =
      DeleteDiffRequestOf(*Parse({"diff", "delete", "x/a", "--missing-ok"}), "/home");
  ASSERT_TRUE(by_path.ok());
  EXPECT_EQ(by_path->path(), "/home/x/a");
  EXPECT_TRUE(by_path->allow_missing());
  EXPECT_EQ(ListDiffsRequestOf(*Parse({"diff", "list", "--dir", "x"}), "/home")->directory(),
            "/home/x");
  EXPECT_TRUE(Parse({"diff", "--help"})->help);
}

TEST(DiffCommands, WhatDoesNotFitIsRefused) {
  const std::vector<std::vector<std::string>> wrong = {{"diff"},
                                                       {"diff", "frob"},
                                                       {"diff", "list", "a"},
                                                       {"diff", "list", "--repair"},
                                                       {"diff", "delete", "a", "b"},
                                                       {"list", "--dir", "/x"}};
  for (const auto& words : wrong) EXPECT_FALSE(Parse(words).ok()) << words.back();
  EXPECT_FALSE(CheckDiffRequestOf(*Parse({"diff", "check"}), "/").ok());
  EXPECT_FALSE(CheckDiffRequestOf(*Parse({"diff", "check", "a", "--store", "/s"}), "/").ok());
}

TEST(DaemonCommands, AreTwoWords) {
  EXPECT_EQ(Parse({"daemon", "status"})->command, "daemon-status");
  const auto dump = Parse({"daemon", "dump", "--lines", "7"});
  ASSERT_TRUE(dump.ok()) << dump.status();
  EXPECT_EQ(DebugDumpRequestOf(*dump)->log_lines(), 7u);
  EXPECT_FALSE(DebugDumpRequestOf(*Parse({"daemon", "dump", "--lines", "x"})).ok());
  EXPECT_EQ(SetLogLevelRequestOf(*Parse({"daemon", "log-level", "debug"}))->level(), "debug");
  EXPECT_FALSE(SetLogLevelRequestOf(*Parse({"daemon", "log-level"})).ok());
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"daemon"}, {"daemon", "frob"}, {"daemon", "status", "a"}, {"list", "--lines", "1"}}) {
    EXPECT_FALSE(Parse(words).ok()) << words.back();
  }
}

TEST(Arguments, HelpExplainsACommand) {
  EXPECT_EQ(Parse({"help", "mount"})->command, "mount");
  EXPECT_TRUE(Parse({"help", "mount"})->help);
  EXPECT_EQ(Parse({"help", "diff", "check"})->command, "diff-check");
  EXPECT_EQ(Parse({"help", "diff"})->command, "diff");
  EXPECT_EQ(Parse({"help"})->command, "");
  EXPECT_EQ(Parse({"diff", "check", "--help"})->command, "diff-check");
  EXPECT_FALSE(Parse({"help", "frob"}).ok());
}

TEST(Arguments, WrongWordsPointToTheHelpOfTheirCommand) {
  EXPECT_EQ(TopicOf({"diff"}), "diff");
  EXPECT_EQ(TopicOf({"-o", "json", "daemon", "frob"}), "daemon");
  EXPECT_EQ(TopicOf({"mount", "--stor", "x"}), "mount");
  EXPECT_EQ(TopicOf({"frob"}), "");
  EXPECT_EQ(TopicOf({}), "");
}

TEST(Arguments, WhatWasMeantIsSuggested) {
  const std::pair<std::vector<std::string>, const char*> table[] = {
      {{"mont"}, "did you mean 'mount'?"},
      {{"umount"}, "did you mean 'unmount'?"},
      {{"lsit"}, "did you mean 'list'?"},
      {{"diff", "chek"}, "did you mean 'diff check'?"},
      {{"deamon", "status"}, "did you mean 'daemon'?"},
      {{"mount", "--ephemral"}, "did you mean '--ephemeral'?"},
      {{"mount", "--recovery=immediate"}, "did you mean '--recovery-target'?"},
      {{"unmount", "--delete"}, "did you mean '--delete-diff'?"}};
  for (const auto& [words, hint] : table) {
    const absl::Status status = Parse(words).status();
    EXPECT_NE(status.message().find(hint), absl::string_view::npos) << status;
  }
  const absl::Status strange = Parse({"xyzzy"}).status();
  EXPECT_EQ(strange.message(), "unknown command 'xyzzy'");
}

TEST(Arguments, ATimeoutIsANumberOfSeconds) {
  EXPECT_EQ(Parse({"list"})->timeout, absl::ZeroDuration());
  EXPECT_EQ(Parse({"list", "--timeout", "1.5"})->timeout, absl::Milliseconds(1500));
  for (const char* wrong : {"0", "-1", "soon", "", "nan", "1e300"}) {
    EXPECT_FALSE(Parse({"list", "--timeout", wrong}).ok()) << wrong;
  }
}

TEST(Size, UnitsAreBinary) {
  EXPECT_EQ(*ParseSize("4096"), 4096);
  EXPECT_EQ(*ParseSize("1.5k"), 1536);
  EXPECT_EQ(*ParseSize("10 MiB"), 10 << 20);
  EXPECT_EQ(*ParseSize("2TB"), int64_t{2} << 40);
  for (const char* wrong : {"", "x", "-1", "1x", "1km", "99999P", "."}) {
    EXPECT_FALSE(ParseSize(wrong).ok()) << wrong;
  }
}

TEST(Owner, NamesAndNumbersAreTaken) {
  EXPECT_EQ(ParseOwner("root")->uid(), 0u);
  EXPECT_EQ(ParseOwner("4242")->uid(), 4242u);
  EXPECT_EQ(ParseOwner("4242:root")->gid(), 0u);
  EXPECT_FALSE(ParseOwner("no-such-user-here").ok());
  EXPECT_FALSE(ParseOwner("").ok());
  EXPECT_FALSE(ParseOwner("root:").ok());
}

TEST(RecoveryTarget, AllKindsAreTaken) {
  EXPECT_TRUE(ParseRecoveryTarget("immediate")->immediate());
  EXPECT_TRUE(ParseRecoveryTarget("latest")->latest());
  EXPECT_EQ(ParseRecoveryTarget("lsn=0/8000028")->lsn(), "0/8000028");
  EXPECT_EQ(ParseRecoveryTarget("name=p1")->name(), "p1");
  EXPECT_EQ(ParseRecoveryTarget("time=1970-01-01T00:00:07Z")->time().seconds(), 7);
  EXPECT_EQ(ParseRecoveryTarget("time=1970-01-01 01:00:07+01")->time().seconds(), 7);
  for (const char* wrong : {"", "xid=", "xid=x", "lsn=1", "name=", "time=yesterday", "soon"}) {
    EXPECT_FALSE(ParseRecoveryTarget(wrong).ok()) << wrong;
  }
}

}  // namespace
}  // namespace pbkfs::client
