// Which backups can be mounted, of whole instances: against a walk down each chain by itself.
#include "fs/catalog/lineage.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/catalog/format_rules.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

Backup MakeBackup(int64_t start_time, int64_t parent_time) {
  Backup backup;
  backup.id = FormatBackupId(start_time);
  backup.directory = backup.id;
  BackupControl& control = backup.control;
  control.start_time = start_time;
  control.mode = parent_time == 0 ? BackupMode::kFull : BackupMode::kDelta;
  if (parent_time != 0) control.parent_id = FormatBackupId(parent_time);
  control.status = BackupStatus::kOk;
  control.block_size = control.wal_block_size = kPageBytes;
  control.program_version = kMinProgramVersion;
  control.server_version = "15";
  control.start_lsn = static_cast<Lsn>(start_time) * 16;
  control.stop_lsn = control.start_lsn + 8;
  return backup;
}

struct Expected {
  std::string reason;  // "" = mountable.
  std::string names;   // What the message must name.
};

// The rules for one backup, with no memory of others.
Expected WalkDown(const std::vector<Backup>& backups, const Backup& tip, bool force) {
  const Backup* member = &tip;
  const Backup* child = nullptr;
  for (size_t length = 1;; ++length) {
    const BackupControl& control = member->control;
    const bool forced = control.status == BackupStatus::kCorrupt;
    if (control.status != BackupStatus::kOk && !(force && forced)) {
      return {"BACKUP_NOT_USABLE", member->id};
    }
    if (control.block_size != kPageBytes) return {"UNSUPPORTED_FORMAT", member->id};
    if (child != nullptr && (control.start_time >= child->control.start_time ||
                             control.server_version != child->control.server_version)) {
      return {"CATALOG_CORRUPT", child->id};
    }
    if (control.mode == BackupMode::kFull) return {};
    if (control.parent_id.empty()) return {"CHAIN_INCOMPLETE", member->id};
    const Backup* parent = nullptr;
    for (const Backup& other : backups) {
      if (other.id == control.parent_id) parent = &other;
    }
    if (parent == nullptr) return {"CHAIN_INCOMPLETE", control.parent_id};
    if (length == kMaxChainLength) return {"CHAIN_INCOMPLETE", tip.id};
    child = member;
    member = parent;
  }
}

void ExpectSame(const std::vector<Backup>& backups, bool force) {
  const Lineage lineage(backups, force);
  for (const Backup& backup : backups) {
    const Expected expected = WalkDown(backups, backup, force);
    const absl::Status status = lineage.Check(backup);
    EXPECT_EQ(ReasonOf(status), expected.reason) << backup.id << ": " << status;
    EXPECT_TRUE(absl::StrContains(status.message(), expected.names)) << backup.id << ": " << status;
    const auto chain = lineage.ChainOf(backup);
    EXPECT_EQ(chain.status(), status);
    if (!chain.ok()) continue;
    EXPECT_EQ(chain->back(), &backup);
    EXPECT_EQ(chain->front()->control.mode, BackupMode::kFull);
  }
}

TEST(LineageTest, AModeThatIsNotKnownIsNamed) {
  std::vector<Backup> backups = {MakeBackup(1000, 0)};
  backups[0].control.mode = BackupMode::kUnknown;
  backups[0].control.mode_text = "BLOCK\n";
  const absl::Status status = Lineage(backups, false).Check(backups[0]);
  EXPECT_EQ(ReasonOf(status), "UNSUPPORTED_FORMAT");
  EXPECT_TRUE(absl::StrContains(status.message(), "backup-mode 'BLOCK\\n'")) << status;
}

TEST(LineageTest, RandomInstancesAreJudgedAsOneChainAtATime) {
  const char* replay = getenv("PBKFS_LINEAGE_SEED");
  const uint32_t first = replay == nullptr ? 1 : static_cast<uint32_t>(atoi(replay));
  const uint32_t last = replay == nullptr ? 500 : first;
  for (uint32_t seed = first; seed <= last; ++seed) {
    SCOPED_TRACE(absl::StrCat("replay: PBKFS_LINEAGE_SEED=", seed));
    std::mt19937 random(seed);
    const auto one_in = [&random](uint32_t n) { return random() % n == 0; };
    std::vector<Backup> backups;
    const int64_t count = 1 + random() % 30;
    for (int64_t time = 1; time <= count; ++time) {
      // Now and then a parent that is not there, or not older: itself, and rings.
      int64_t parent = one_in(6) ? 0 : 1 + random() % static_cast<uint32_t>(time);
      if (one_in(10)) parent = 1 + random() % static_cast<uint32_t>(count + 3);
      backups.push_back(MakeBackup(time, parent));
      BackupControl& control = backups.back().control;
      if (one_in(12)) control.status = BackupStatus::kError;
      if (one_in(12)) control.status = BackupStatus::kCorrupt;
      if (one_in(20)) control.block_size = 16384;
      if (one_in(20)) control.server_version = "14";
      if (one_in(20)) control.parent_id.clear();
    }
    ExpectSame(backups, false);
    ExpectSame(backups, true);
    if (HasFailure()) return;
  }
}

TEST(LineageTest, ALongChainIsJudgedToItsEndAndNoFurther) {
  std::vector<Backup> backups;
  const auto limit = static_cast<int64_t>(kMaxChainLength);
  for (int64_t time = 1; time <= limit + 2; ++time) backups.push_back(MakeBackup(time, time - 1));
  const Lineage lineage(backups, false);
  EXPECT_EQ(lineage.ChainOf(backups[kMaxChainLength - 1])->size(), kMaxChainLength);
  for (const size_t index : {kMaxChainLength, kMaxChainLength + 1}) {
    const absl::Status status = lineage.Check(backups[index]);
    EXPECT_EQ(ReasonOf(status), "CHAIN_INCOMPLETE");
    EXPECT_TRUE(absl::StrContains(status.message(), backups[index].id)) << status;
  }
}

}  // namespace
}  // namespace pbkfs
