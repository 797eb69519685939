// What is left of the evidence of killed processes, on the tmpfs that it really is on.
#include "fs/diff/page_cache_evidence.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "fs/base/directory_handle.h"
#include "fs/diff/diff_store.h"
#include "tests/support/memory_tree.h"
#include "tests/support/must_run.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

class PageCacheEvidenceTest : public testing::Test {
 protected:
  void SetUp() override {
    Kill();
    if (EvidenceOf(path()).empty()) Skip("there is no tmpfs, or no handle of a directory on disk");
    if (IsSkipped() || HasFailure()) return;
    std::filesystem::create_directory(Path("gone"));
    const std::string handle =
        HandleOfDirectory(PosixIo().OpenDir(Path("gone")).value()->descriptor());
    std::filesystem::remove(Path("gone"));
    const auto parent = PosixIo().OpenDir(directory_.path());
    if (!DirectoryIsGone((*parent)->descriptor(), handle)) Skip("CAP_DAC_READ_SEARCH is missing");
  }
  static void Skip(const std::string& cause) {
    if (testsupport::MustRunAllTests()) FAIL() << cause;
    GTEST_SKIP() << cause;
  }

  std::string Path(const std::string& name) const { return directory_.path() + "/" + name; }
  std::string path() const { return Path("diff"); }

  // Opens the diff at `path` and leaves it as a process that is killed does.
  void Kill() {
    auto store = DiffStore::Open(PosixIo(), path(), DiffIdentity());
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_TRUE((*store)->Recover(lower_, 1).ok());
  }
  // The files of evidence that name `path`.
  static std::vector<std::string> EvidenceOf(const std::string& path) {
    std::vector<std::string> found;
    for (const char* place : {"/run/pbkfs", "/dev/shm/pbkfs"}) {
      std::error_code error;
      for (const auto& entry : std::filesystem::directory_iterator(place, error)) {
        std::ifstream file(entry.path());
        const std::string text{std::istreambuf_iterator<char>(file), {}};
        if (text.size() > path.size() && text.ends_with(" " + path)) found.push_back(entry.path());
      }
    }
    return found;
  }

  testsupport::TemporaryDirectory directory_;
  testsupport::MemoryTree lower_{{{"a", {S_IFREG | 0600, "1"}}}};
};

TEST_F(PageCacheEvidenceTest, ThatOfADiffThatWasRemovedIsCollected) {
  const std::string file = EvidenceOf(path()).at(0);
  std::ofstream(file + ".failed").flush();
  CollectEvidence(PosixIo());
  EXPECT_EQ(EvidenceOf(path()).size(), 1u) << "the diff is there";
  std::filesystem::remove_all(path());
  CollectEvidence(PosixIo());
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_FALSE(std::filesystem::exists(file + ".failed"));
}

TEST_F(PageCacheEvidenceTest, ThatOfADiffWhosePlaceAnotherTookIsCollected) {
  const std::string file = EvidenceOf(path()).at(0);
  std::filesystem::remove_all(path());
  Kill();
  CollectEvidence(PosixIo());
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_EQ(EvidenceOf(path()).size(), 1u);
  ASSERT_TRUE(DiffStore::Delete(PosixIo(), path()).ok());
  EXPECT_TRUE(EvidenceOf(path()).empty());
}

TEST_F(PageCacheEvidenceTest, ADiffThatWasMovedKeepsIts) {
  std::filesystem::create_directory(Path("below"));
  std::filesystem::rename(path(), Path("below/moved"));
  CollectEvidence(PosixIo());
  EXPECT_EQ(EvidenceOf(path()).size(), 1u);
  auto store = DiffStore::Open(PosixIo(), Path("below/moved"), DiffIdentity());
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_TRUE((*store)->Recover(lower_, 2).ok());
  EXPECT_EQ((*store)->shutdown_kind(), ShutdownKind::kProcessDied);
  EXPECT_TRUE(EvidenceOf(path()).empty());
  ASSERT_TRUE((*store)->MarkClean().ok());
}

}  // namespace
}  // namespace pbkfs
