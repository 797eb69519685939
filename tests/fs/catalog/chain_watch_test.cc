// What a mounted chain notices of changes in the catalog, and what it forgives.
#include "fs/catalog/chain_watch.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "fs/base/status.h"
#include "fs/catalog/limits.h"
#include "tests/fs/catalog/chain_fixture.h"

namespace pbkfs {
namespace {

namespace fs = std::filesystem;

class ChainWatchTest : public ChainTest {
 protected:
  ChainWatchTest() {
    AddBackup(ts::BackupMode::kFull);
    id_ = AddBackup(ts::BackupMode::kDelta);
    chain_ = *Resolve(id_);
    full_ = chain_->members[0]->id;
  }

  std::string Aside() const { return directory_.path() + "/aside"; }

  std::string id_;
  std::string full_;
  std::shared_ptr<const Chain> chain_;
};

TEST_F(ChainWatchTest, EveryStatusThatIsNotGoodEndsTheChain) {
  EXPECT_TRUE(chain_->State().ok());
  for (const char* status : {"MERGING", "CORRUPT", "DELETING", "ORPHAN", "ERROR"}) {
    Edit(Control(full_), "status = OK", absl::StrCat("status = ", status));
    const absl::Status result = chain_->CheckAll();
    EXPECT_EQ(result.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(ErrnoOf(result), EIO);
    EXPECT_NE(result.message().find(status), absl::string_view::npos) << result;
    EXPECT_NE(result.message().find(full_), absl::string_view::npos) << result;
    EXPECT_EQ(chain_->State(), result) << "what one check found holds for every read";
    EXPECT_FALSE(chain_->Open(0, "database/PG_VERSION").ok());
    EXPECT_TRUE(chain_->Open(1, "database/PG_VERSION").ok()) << "the other member is what it was";
    Edit(Control(full_), absl::StrCat("status = ", status), "status = OK");
    EXPECT_TRUE(chain_->CheckAll().ok());
    EXPECT_TRUE(chain_->State().ok());
  }
}

TEST_F(ChainWatchTest, ReadersNoticeADeletionWithinSeconds) {
  EXPECT_TRUE(chain_->State().ok());
  fs::remove_all(writer_.BackupDirectory(full_));
  const auto begin = std::chrono::steady_clock::now();
  while (chain_->State().ok()) {
    ASSERT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4));
    std::this_thread::yield();
  }
}

TEST_F(ChainWatchTest, ARenamedDirectoryIsStillHeld) {
  fs::rename(writer_.BackupDirectory(full_), Aside());
  EXPECT_TRUE(chain_->CheckAll().ok());
  EXPECT_TRUE(chain_->Open(0, "database/PG_VERSION").ok());
}

TEST_F(ChainWatchTest, ACopyThatSaysTheSameIsUsedAgain) {
  fs::copy(writer_.BackupDirectory(full_), Aside(), fs::copy_options::recursive);
  fs::remove_all(writer_.BackupDirectory(full_));
  EXPECT_FALSE(chain_->CheckAll().ok());
  EXPECT_FALSE(chain_->Open(0, "database/PG_VERSION").ok());
  fs::copy(Aside(), writer_.BackupDirectory(full_), fs::copy_options::recursive);
  EXPECT_TRUE(chain_->CheckAll().ok()) << chain_->CheckAll();
  EXPECT_TRUE(chain_->State().ok());
  EXPECT_TRUE(chain_->Open(0, "database/PG_VERSION").ok());
  // The same once more, noticed by an open.
  fs::remove_all(writer_.BackupDirectory(full_));
  fs::copy(Aside(), writer_.BackupDirectory(full_), fs::copy_options::recursive);
  EXPECT_TRUE(chain_->Open(0, "database/PG_VERSION").ok());
}

TEST_F(ChainWatchTest, ACopyOfTheWholeCatalogIsUsedAgain) {
  fs::copy(store_, Aside(), fs::copy_options::recursive);
  fs::remove_all(store_);
  EXPECT_FALSE(chain_->CheckAll().ok());
  fs::rename(Aside(), store_);
  EXPECT_TRUE(chain_->CheckAll().ok()) << chain_->CheckAll();
}

TEST_F(ChainWatchTest, AnotherBackupUnderTheSameNameIsNotUsed) {
  fs::copy(writer_.BackupDirectory(full_), Aside(), fs::copy_options::recursive);
  fs::remove_all(writer_.BackupDirectory(full_));
  for (const auto& [name, from, to] :
       {std::make_tuple("backup.control", "start-lsn = 0/4000028", "start-lsn = 0/4000030"),
        std::make_tuple("backup_content.control", "PG_VERSION", "PG_VERSIOM")}) {
    SCOPED_TRACE(name);
    fs::copy(Aside(), writer_.BackupDirectory(full_), fs::copy_options::recursive);
    Edit(absl::StrCat(writer_.BackupDirectory(full_), "/", name), from, to);
    EXPECT_EQ(chain_->CheckAll().code(), absl::StatusCode::kUnavailable);
    EXPECT_FALSE(chain_->Open(0, "database/PG_VERSION").ok());
    fs::remove_all(writer_.BackupDirectory(full_));
  }
}

TEST_F(ChainWatchTest, AListThatWasReplacedByItselfIsNoChange) {
  const std::string list = absl::StrCat(writer_.BackupDirectory(full_), "/backup_content.control");
  ts::ReplaceFile(list, ts::ReadWholeFile(list), 0600);
  Edit(Control(full_), "status = OK", "status = DONE");
  EXPECT_TRUE(chain_->CheckAll().ok()) << chain_->CheckAll();
}

TEST_F(ChainWatchTest, ManyThreadsMayAskWhileItChanges) {
  std::vector<std::thread> threads;
  std::atomic<bool> stop{false};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      while (!stop) {
        chain_->State().IgnoreError();
        if (i % 2 == 0) chain_->Open(0, "database/PG_VERSION").status().IgnoreError();
      }
    });
  }
  fs::copy(writer_.BackupDirectory(full_), Aside(), fs::copy_options::recursive);
  for (int round = 0; round < 20; ++round) {
    fs::remove_all(writer_.BackupDirectory(full_));
    chain_->CheckAll().IgnoreError();
    fs::copy(Aside(), writer_.BackupDirectory(full_), fs::copy_options::recursive);
    chain_->CheckAll().IgnoreError();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(chain_->CheckAll().ok()) << chain_->CheckAll();
}

}  // namespace
}  // namespace pbkfs
