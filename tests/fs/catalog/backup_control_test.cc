#include "fs/catalog/backup_control.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "fs/base/status.h"

namespace pbkfs {
namespace {

constexpr char kDelta[] = R"(#Configuration
backup-mode = DELTA
stream = true
compress-alg = zlib
compress-level = 1
from-replica = false

#Compatibility
block-size = 8192
xlog-block-size = 8192
checksum-version = 1
program-version = 2.5.16
server-version = 15

#Result backup info
timelineid = 1
start-lsn = 0/6000028
stop-lsn = 1/6000168
start-time = '2026-11-22 05:36:32+00'
end-time = '2026-11-22 05:41:40+00'
recovery-xid = 1151
recovery-time = '2026-11-22 05:41:32+00'
data-bytes = 2093190
wal-bytes = 33554432
uncompressed-bytes = 6520327
pgdata-bytes = 75642893
status = OK
parent-backup-id = 'TOW2GV'
primary_conninfo = 'user=postgres host=/tmp'
external-dirs = '/srv/b:/srv//a/'
content-crc = 869514532
)";

std::string With(absl::string_view old_line, absl::string_view new_line) {
  const std::string changed = absl::StrReplaceAll(kDelta, {{old_line, new_line}});
  EXPECT_NE(changed, kDelta) << old_line;
  return changed;
}

TEST(BackupIdTest, IsTheStartTimeInBase36) {
  EXPECT_EQ(FormatBackupId(1795325792), "TOW28W");
  EXPECT_EQ(*ParseBackupId("TOW28W"), 1795325792);
  EXPECT_EQ(*ParseBackupId("tow28w"), 1795325792);
  EXPECT_EQ(*ParseBackupId("1Y2P0IJ32E8E7"), INT64_MAX);
  for (const char* bad :
       {"", "0", "TOW-8W", "../x", "1Y2P0IJ32E8E8", "ZZZZZZZZZZZZZ", "00000000000001"}) {
    EXPECT_FALSE(ParseBackupId(bad).ok()) << bad;
  }
}

TEST(BackupControlTest, AllKeysAreRead) {
  const auto control = ParseBackupControl(kDelta);
  ASSERT_TRUE(control.ok()) << control.status();
  EXPECT_EQ(control->mode, BackupMode::kDelta);
  EXPECT_EQ(control->status, BackupStatus::kOk);
  EXPECT_TRUE(control->stream);
  EXPECT_EQ(control->block_size, 8192u);
  EXPECT_EQ(control->checksum_version, 1u);
  EXPECT_EQ(control->program_version, 20516u);
  EXPECT_EQ(control->ServerMajor(), 15);
  EXPECT_EQ(FormatLsn(control->start_lsn), "0/6000028");
  EXPECT_EQ(FormatLsn(control->stop_lsn), "1/6000168");
  EXPECT_EQ(control->start_time, 1795325792);
  EXPECT_EQ(control->recovery_xid, 1151u);
  EXPECT_EQ(control->data_bytes, 2093190);
  EXPECT_EQ(control->parent_id, "TOW2GV");
  EXPECT_EQ(control->external_dirs, (std::vector<std::string>{"/srv/a", "/srv/b"}));
  EXPECT_EQ(control->primary_conninfo, "user=postgres host=/tmp");
  EXPECT_EQ(control->content_crc, 869514532u);
  EXPECT_EQ(control->merge_time, 0);
}

TEST(BackupControlTest, MalformedKeysThatAreOnlyShownDoNotMatter) {
  const auto control = ParseBackupControl(With("user=postgres", "user='o'brien'"));
  ASSERT_TRUE(control.ok()) << control.status();
  EXPECT_EQ(control->primary_conninfo, "");
  EXPECT_TRUE(ParseBackupControl(With("data-bytes = 2093190", "data-bytes = many")).ok());
  EXPECT_TRUE(ParseBackupControl(absl::StrCat(kDelta, "note = 'it's mine'\nnew-key = 1\n")).ok());
}

TEST(BackupControlTest, MalformedKeysThatAMountNeedsFail) {
  const std::pair<const char*, const char*> cases[] = {
      {"stop-lsn = 1/6000168", "stop-lsn = 1"},
      {"program-version = 2.5.16", "program-version = 2.5"},
      {"program-version = 2.5.16", "program-version = 2.5.x"},
      {"start-time = '2026-11-22 05:36:32+00'", "start-time = 'then'"},
      {"parent-backup-id = 'TOW2GV'", "parent-backup-id = '../../etc'"},
      {"content-crc = 869514532", "content-crc = 86951453200"},
      {"block-size = 8192\nxlog", "block-size = 8k\nxlog"},
  };
  for (const auto& [old_line, new_line] : cases) {
    const auto control = ParseBackupControl(With(old_line, new_line));
    EXPECT_EQ(ReasonOf(control.status()), "CATALOG_CORRUPT") << new_line;
  }
}

TEST(BackupControlTest, WordsThatAreNotKnownAreUnknown) {
  EXPECT_EQ(ParseBackupControl(With("status = OK", "status = ok"))->status, BackupStatus::kUnknown);
  EXPECT_EQ(ParseBackupControl(With("status = OK", "status = HIDDEN"))->status_text, "HIDDEN");
  EXPECT_EQ(ParseBackupControl(With("= DELTA", "= del"))->mode, BackupMode::kDelta);
  EXPECT_EQ(ParseBackupControl(With("= DELTA", "= P"))->mode, BackupMode::kUnknown);
  EXPECT_EQ(ParseBackupControl(With("= DELTA", "= FULL"))->parent_id, "");
  EXPECT_EQ(ParseBackupControl(With("program-version = 2.5.16\n", ""))->program_version, 0u);
}

TEST(InstanceConfigTest, SegmentSizeMustBeAPowerOfTwo) {
  const auto config =
      ParseInstanceConfig("pgdata = /srv/pg\nsystem-identifier = 7710866784410618285\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->pgdata, "/srv/pg");
  EXPECT_EQ(config->system_identifier, 7710866784410618285u);
  EXPECT_EQ(config->wal_segment_size, 16u << 20);
  EXPECT_FALSE(ParseInstanceConfig("xlog-seg-size = 0").ok());
  EXPECT_FALSE(ParseInstanceConfig("xlog-seg-size = 16777217").ok());
}

}  // namespace
}  // namespace pbkfs
