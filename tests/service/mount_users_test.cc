#include "service/mount_users.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fs/base/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/must_run.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

// Small file systems in memory, below a directory of the test.
class MountUsersTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::canonical(directory_.path()).string();
    if (geteuid() == 0) return;
    if (testsupport::MustRunAllTests()) FAIL() << "needs root";
    GTEST_SKIP() << "needs root";
  }
  void TearDown() override {
    for (const std::string& path : mounted_) umount2(path.c_str(), MNT_DETACH);
  }

  std::string Mount(const std::string& name) {
    const std::string path = absl::StrCat(root_, "/", name);
    mkdir(path.c_str(), 0700);
    EXPECT_EQ(mount("test", path.c_str(), "tmpfs", 0, "size=64k"), 0);
    mounted_.push_back(path);
    return path;
  }
  std::string Bind(const std::string& from, const std::string& name) {
    const std::string path = absl::StrCat(root_, "/", name);
    mkdir(path.c_str(), 0700);
    EXPECT_EQ(mount(from.c_str(), path.c_str(), nullptr, MS_BIND, nullptr), 0);
    mounted_.push_back(path);
    return path;
  }
  static std::optional<MountInfoEntry> EntryOf(const std::string& path) {
    const absl::StatusOr<std::vector<MountInfoEntry>> all = ReadMountInfo();
    if (!all.ok()) return std::nullopt;
    for (const MountInfoEntry& entry : *all) {
      if (entry.mount_point == path) return entry;
    }
    return std::nullopt;
  }
  static UniqueFd FileOn(const std::string& path) {
    return UniqueFd(open((path + "/file").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  }
  static std::string Myself() { return absl::StrCat("(pid ", getpid(), ")"); }

  testsupport::TemporaryDirectory directory_;
  std::string root_;
  std::vector<std::string> mounted_;
};

TEST_F(MountUsersTest, WhoHasAFileOpenIsNamed) {
  const std::string path = Mount("m");
  const std::optional<MountInfoEntry> entry = EntryOf(path);
  ASSERT_TRUE(entry.has_value());
  EXPECT_THAT(MountUsers(*entry), testing::IsEmpty());
  const UniqueFd file = FileOn(path);
  EXPECT_THAT(MountUsers(*entry), testing::ElementsAre(testing::HasSubstr(Myself())));
  ASSERT_EQ(umount2(path.c_str(), MNT_DETACH), 0);
  EXPECT_THAT(MountUsers(*entry), testing::ElementsAre(testing::HasSubstr(Myself())));
}

TEST_F(MountUsersTest, AMountThatWasNeverSeenHasNoUsers) {
  EXPECT_THAT(MountUsers(MountInfoEntry()), testing::IsEmpty());
}

TEST_F(MountUsersTest, AMountThatGotTheNumberOfOneThatIsGoneIsNotTakenForIt) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    const std::string path = Mount("m");
    Bind(path, "copy");  // Keeps the file system, so that its device is not given away.
    const std::optional<MountInfoEntry> entry = EntryOf(path);
    ASSERT_TRUE(entry.has_value());
    ASSERT_EQ(umount2(path.c_str(), 0), 0);
    const std::string other = Mount("other");
    const UniqueFd file = FileOn(other);
    const std::optional<MountInfoEntry> other_entry = EntryOf(other);
    ASSERT_TRUE(other_entry.has_value());
    EXPECT_THAT(MountUsers(*entry), testing::IsEmpty());
    TearDown();
    if (other_entry->mount_id == entry->mount_id) return;
  }
  // Somebody else is quicker each time.
  if (testsupport::MustRunAllTests()) FAIL() << "the kernel gave no number a second time";
  GTEST_SKIP() << "the kernel gave no number a second time";
}

}  // namespace
}  // namespace pbkfs
