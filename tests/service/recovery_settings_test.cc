#include "service/recovery_settings.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "fs/base/status.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

using google::protobuf::util::MessageDifferencer;

// A recovery of each kind, normalized.
std::vector<v1::Recovery> EveryKind() {
  std::vector<v1::Recovery> kinds(6);
  kinds[0].set_immediate(true);
  kinds[1].set_latest(true);
  kinds[2].mutable_time()->set_seconds(1795327635);
  kinds[2].mutable_time()->set_nanos(123456789);
  kinds[3].set_xid((uint64_t{7} << 32) + 1008);
  kinds[4].set_lsn("0/a073920");
  kinds[5].set_name("it's \\ 100%");
  for (v1::Recovery& recovery : kinds) recovery = *NormalizeRecovery(recovery);
  return kinds;
}

TEST(RecoverySettings, DefaultsAreFilledIn) {
  const std::vector<v1::Recovery> kinds = EveryKind();
  for (const v1::Recovery& recovery : kinds) {
    EXPECT_EQ(recovery.action(), "promote");
    EXPECT_EQ(recovery.timeline(), recovery.has_latest() ? "latest" : "current");
  }
  EXPECT_EQ(kinds[4].lsn(), "0/A073920");
  EXPECT_EQ(kinds[2].time().nanos(), 123456000);
  EXPECT_TRUE(kinds[3].inclusive());
  EXPECT_FALSE(kinds[5].has_inclusive());
}

TEST(RecoverySettings, WhatMakesNoSenseIsRefused) {
  const auto refused = [](void (*change)(v1::Recovery*)) {
    v1::Recovery recovery;
    change(&recovery);
    const absl::Status status = NormalizeRecovery(recovery).status();
    return ReasonOf(status) == reason::kInvalidField && FieldOf(status) == "recovery";
  };
  EXPECT_TRUE(refused([](v1::Recovery*) {}));
  EXPECT_TRUE(refused([](v1::Recovery* r) { r->set_latest(false); }));
  EXPECT_TRUE(refused([](v1::Recovery* r) { r->set_immediate(false); }));
  EXPECT_TRUE(refused([](v1::Recovery* r) { r->set_xid(2); }));
  EXPECT_TRUE(refused([](v1::Recovery* r) { r->set_lsn("A073920"); }));
  EXPECT_TRUE(refused([](v1::Recovery* r) { r->set_lsn("0/0"); }));
  EXPECT_TRUE(refused([](v1::Recovery* r) { r->set_name(""); }));
  EXPECT_TRUE(refused([](v1::Recovery* r) { r->set_name("a\nb"); }));
  EXPECT_TRUE(refused([](v1::Recovery* r) { r->set_name(std::string(64, 'x')); }));
  EXPECT_TRUE(refused([](v1::Recovery* r) { r->mutable_time()->set_nanos(-1); }));
  EXPECT_TRUE(refused([](v1::Recovery* r) { r->mutable_time()->set_seconds(int64_t{1} << 60); }));
  EXPECT_TRUE(refused([](v1::Recovery* r) {
    r->set_latest(true);
    r->set_timeline("0");
  }));
  EXPECT_TRUE(refused([](v1::Recovery* r) {
    r->set_latest(true);
    r->set_action("rest");
  }));
  EXPECT_TRUE(refused([](v1::Recovery* r) {
    r->set_name("x");
    r->set_inclusive(false);
  }));
}

TEST(RecoverySettings, ComeBackFromTheSettingsOfADiff) {
  for (const v1::Recovery& recovery : EveryKind()) {
    CloneFacts facts;
    facts.server_major = 15;
    const SettingList without = CloneSettings(facts, ServerConfig(), {{"port", "1"}});
    EXPECT_FALSE(RecoveryOf(without).has_value());
    facts.recovery = RecoverySettings(recovery);
    const SettingList settings =
        ParseSettings(FormatSettings(CloneSettings(facts, ServerConfig(), {{"port", "1"}})));
    const auto back = RecoveryOf(settings);
    ASSERT_TRUE(back.has_value());
    EXPECT_TRUE(MessageDifferencer::Equals(*back, recovery))
        << back->ShortDebugString() << " instead of " << recovery.ShortDebugString();
    EXPECT_EQ(WithoutRecovery(settings), without);
  }
}

TEST(RecoverySettings, TimesAreInUtc) {
  const SettingList settings = RecoverySettings(EveryKind()[2]);
  EXPECT_EQ(settings[0].first, "recovery_target_time");
  EXPECT_EQ(settings[0].second, "2026-11-22 06:07:15.123456+00");
}

// What the server runs, in PGDATA: %f is the file, %p where it goes to.
class RestoreCommand : public testing::Test {
 protected:
  int Run() {
    const std::string command =
        absl::StrReplaceAll(RecoverySettings(ArchiveRecovery()).back().second,
                            {{"%f", "00000001"}, {"%p", "pg_wal/RECOVERYXLOG"}});
    const int result =
        system(absl::StrCat("cd ", root_.path(), " && exec 2>/dev/null; ", command).c_str());
    return WEXITSTATUS(result);
  }
  testsupport::TemporaryDirectory root_;
};

TEST_F(RestoreCommand, CopiesAndTellsTheArchivesEndFromEverythingElse) {
  testsupport::MakeDirectories(root_.path() + "/pg_wal", 0700);
  EXPECT_EQ(Run(), 126) << "without the mount's directory there is no end of an archive";
  testsupport::MakeDirectories(root_.path() + "/.pbkfs/wal", 0700);
  EXPECT_EQ(Run(), 1);
  testsupport::MakeDirectories(root_.path() + "/.pbkfs/wal/00000001", 0700);
  EXPECT_EQ(Run(), 126) << "it is there, and can't be copied";
  ASSERT_EQ(rmdir((root_.path() + "/.pbkfs/wal/00000001").c_str()), 0);
  testsupport::WriteWholeFile(root_.path() + "/.pbkfs/wal/00000001", "wal", 0600);
  EXPECT_EQ(Run(), 0);
  EXPECT_EQ(testsupport::ReadWholeFile(root_.path() + "/pg_wal/RECOVERYXLOG"), "wal");
}

}  // namespace
}  // namespace pbkfs
