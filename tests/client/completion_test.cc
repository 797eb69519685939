#include "client/completion.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pbkfs::client {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

// A daemon that knows two of everything.
std::vector<std::string> Known(absl::string_view kind, const GivenOptions& given) {
  const auto store = given.find("store");
  if (kind == kInstanceKind && store == given.end()) return {};
  const std::string name(absl::StripSuffix(absl::StripPrefix(kind, "<"), ">"));
  return {absl::StrCat(name, "-a"), absl::StrCat(name, "-b")};
}

std::vector<std::string> Words(const std::vector<std::string>& words) {
  std::vector<std::string> lines = absl::StrSplit(Complete(words, Known), '\n', absl::SkipEmpty());
  EXPECT_EQ(lines[0], ":words");
  lines.erase(lines.begin());
  return lines;
}

TEST(Completion, CommandsOfOneWordAndOfTwo) {
  EXPECT_THAT(Words({"un"}), ElementsAre("unmount"));
  EXPECT_THAT(Words({"-o", "json", "d"}), ElementsAre("diff", "daemon"));
  EXPECT_THAT(Words({"daemon", ""}),
              ElementsAre("status", "reload", "upgrade", "dump", "log-level"));
  EXPECT_THAT(Words({"help", "mo"}), ElementsAre("mount"));
}

TEST(Completion, FlagsOfTheCommandThatAreNotThereYet) {
  EXPECT_THAT(Words({"mount", "--cat"}), ElementsAre("--catalog-lock"));
  EXPECT_THAT(Words({"unmount", "a", "--"}), Contains("--wait"));
  EXPECT_THAT(Words({"unmount", "a", "--wait", "3", "--"}), Not(Contains("--wait")));
  EXPECT_THAT(Words({"unmount", "--d"}), ElementsAre("--delete-diff"));
  EXPECT_THAT(Words({"mount", "--set", "a=b", "--set"}), ElementsAre("--set"));
}

TEST(Completion, ValuesOfEnumerations) {
  EXPECT_THAT(Words({"mount", "--catalog-lock", ""}), ElementsAre("auto", "required", "off"));
  EXPECT_THAT(Words({"mount", "--catalog-lock", "r"}), ElementsAre("required"));
  EXPECT_THAT(Words({"mount", "--recovery-target", "t"}), ElementsAre("time="));
  EXPECT_THAT(Words({"-o", ""}), ElementsAre("table", "json"));
  EXPECT_THAT(Words({"daemon", "log-level", "d"}), ElementsAre("debug"));
  EXPECT_THAT(Words({"completion", ""}), ElementsAre("bash", "zsh"));
}

TEST(Completion, AnEqualsSignIsSplitByBashAndNotByZsh) {
  EXPECT_THAT(Words({"mount", "--catalog-lock", "=", "a"}), ElementsAre("auto"));
  EXPECT_THAT(Words({"mount", "--catalog-lock", "="}), ElementsAre("auto", "required", "off"));
  EXPECT_THAT(Words({"mount", "--catalog-lock=a"}), ElementsAre("--catalog-lock=auto"));
  EXPECT_THAT(Words({"mount", "--store", "=", "/b", "--instance", ""}),
              ElementsAre("instance-a", "instance-b"));
}

TEST(Completion, WhatOnlyTheDaemonKnows) {
  EXPECT_THAT(Words({"unmount", ""}), ElementsAre("mount-a", "mount-b"));
  EXPECT_THAT(Words({"unmount", "mount-a", ""}), IsEmpty());
  EXPECT_THAT(Words({"diff", "check", "diff-b"}), ElementsAre("diff-b"));
  EXPECT_THAT(Words({"mount", "--instance", ""}), IsEmpty());
  EXPECT_THAT(Words({"mount", "--store", "/b", "--backup", ""}),
              ElementsAre("backup-a", "backup-b"));
}

TEST(Completion, WhatTheShellKnows) {
  EXPECT_EQ(Complete({"mount", "--store", "/b"}, Known), ":directories\n");
  EXPECT_EQ(Complete({"mount", "--target=/b"}, Known), ":directories\n");
  EXPECT_EQ(Complete({"unmount", "/mnt/"}, Known), ":directories\n");
  EXPECT_EQ(Complete({"mount", "--owner", "p"}, Known), ":users\n");
}

TEST(Completion, NothingIsMadeUp) {
  EXPECT_THAT(Words({"frobnicate", ""}), IsEmpty());
  EXPECT_THAT(Words({"list", ""}), IsEmpty());
  EXPECT_THAT(Words({"mount", "--id", ""}), IsEmpty());
  EXPECT_THAT(Words({"list", "--frob"}), IsEmpty());
  EXPECT_THAT(Words({}), Contains("mount"));
}

}  // namespace
}  // namespace pbkfs::client
