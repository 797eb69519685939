#include "fs/base/plain_path.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "fs/base/io.h"
#include "fs/base/status.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

class PlainPathTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::canonical(directory_.path()).string();
    ASSERT_EQ(mkdir((root_ + "/real").c_str(), 0700), 0);
    ASSERT_EQ(mkdir((root_ + "/real/sub").c_str(), 0700), 0);
    ASSERT_EQ(symlink("real", (root_ + "/link").c_str()), 0);
    ASSERT_EQ(symlink("sub", (root_ + "/real/last").c_str()), 0);
  }

  testsupport::TemporaryDirectory directory_;
  std::string root_;
};

TEST_F(PlainPathTest, ALinkInAnyComponentIsRefused) {
  EXPECT_TRUE(OpenPlainDirectory(root_ + "/real/sub", O_RDONLY).ok());
  for (const char* path : {"/link", "/link/sub", "/real/last"}) {
    EXPECT_EQ(ErrnoOf(OpenPlainDirectory(root_ + path, O_RDONLY).status()), ELOOP) << path;
    EXPECT_EQ(ErrnoOf(PosixIo().OpenDir(root_ + path).status()), ELOOP) << path;
  }
  EXPECT_EQ(ErrnoOf(OpenPlainDirectory(root_ + "/none", O_RDONLY).status()), ENOENT);
}

TEST_F(PlainPathTest, DirectoriesAreMadeAndRemovedInTheRightPlace) {
  EXPECT_EQ(ErrnoOf(PosixIo().MakeDir(root_ + "/link/new", 0700)), ELOOP);
  EXPECT_TRUE(PosixIo().MakeDir(root_ + "/real/new", 0700).ok());
  EXPECT_EQ(ErrnoOf(RemovePlainDirectory(root_ + "/link/new")), ELOOP);
  EXPECT_EQ(ErrnoOf(RemovePlainDirectory(root_ + "/real/last")), ENOTDIR);
  EXPECT_TRUE(RemovePlainDirectory(root_ + "/real/new").ok());
}

TEST_F(PlainPathTest, TheParentAndTheName) {
  const absl::StatusOr<PlainParent> parent = OpenPlainParent(root_ + "/real/any");
  ASSERT_TRUE(parent.ok()) << parent.status();
  EXPECT_EQ(parent->name, "any");
  EXPECT_EQ(OpenPlainParent("/tmp").value().name, "tmp");
  EXPECT_FALSE(OpenPlainParent("relative").ok());
  EXPECT_FALSE(OpenPlainParent(root_ + "/").ok());
}

}  // namespace
}  // namespace pbkfs
