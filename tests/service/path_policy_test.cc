#include "service/path_policy.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>

#include "fs/base/io.h"
#include "fs/base/plain_path.h"
#include "fs/base/status.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

class PathPolicyTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::canonical(directory_.path()).string();
    for (const char* sub : {"/state", "/allowed", "/allowed/store", "/other"}) {
      ASSERT_EQ(mkdir((root_ + sub).c_str(), 0700), 0);
    }
  }

  const PathPolicy& Policy(const std::vector<std::string>& roots) {
    absl::StatusOr<std::unique_ptr<PathPolicy>> policy =
        PathPolicy::Create(roots, root_ + "/state");
    if (!policy.ok()) ADD_FAILURE() << policy.status();
    policy_ = *std::move(policy);
    return *policy_;
  }

  testsupport::TemporaryDirectory directory_;
  std::string root_;
  std::unique_ptr<PathPolicy> policy_;
};

TEST_F(PathPolicyTest, RootsCanBeChanged) {
  Policy({root_ + "/allowed"});
  ASSERT_TRUE(policy_->SetRoots({root_ + "/other"}).ok());
  EXPECT_EQ(ReasonOf(policy_->Resolve("store", root_ + "/allowed/store").status()),
            reason::kPathNotAllowed);
  EXPECT_TRUE(policy_->Resolve("store", root_ + "/other/store").ok());
}

TEST_F(PathPolicyTest, WithoutRootsOnlyTheStateDirectoryIsAllowed) {
  const PathPolicy& policy = Policy({});
  EXPECT_TRUE(policy.Resolve("diff_dir", root_ + "/state/diffs/a").ok());
  const absl::Status status = policy.Resolve("store", root_ + "/allowed/store").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(ReasonOf(status), "PATH_NOT_ALLOWED");
  EXPECT_NE(status.message().find("--allow-root"), absl::string_view::npos) << status;
}

TEST_F(PathPolicyTest, LinksOutOfTheRootsAreSeenThrough) {
  const PathPolicy& policy = Policy({root_ + "/allowed"});
  ASSERT_EQ(symlink((root_ + "/other").c_str(), (root_ + "/allowed/link").c_str()), 0);
  ASSERT_EQ(symlink("store", (root_ + "/allowed/inside").c_str()), 0);
  EXPECT_EQ(ReasonOf(policy.Resolve("target", root_ + "/allowed/link/t").status()),
            "PATH_NOT_ALLOWED");
  const absl::StatusOr<ResolvedPath> inside = policy.Resolve("store", root_ + "/allowed/inside");
  ASSERT_TRUE(inside.ok());
  EXPECT_EQ(inside->path, root_ + "/allowed/store");
  EXPECT_TRUE(inside->exists);
  EXPECT_FALSE(policy.Resolve("store", root_ + "/allowedX").ok());
}

TEST_F(PathPolicyTest, MissingPathsTellHowMuchIsThere) {
  const PathPolicy& policy = Policy({root_ + "/allowed"});
  const absl::StatusOr<ResolvedPath> child = policy.Resolve("target", root_ + "/allowed/t");
  ASSERT_TRUE(child.ok());
  EXPECT_FALSE(child->exists);
  EXPECT_TRUE(child->parent_exists);
  const absl::StatusOr<ResolvedPath> deep = policy.Resolve("target", root_ + "/allowed/t/u/v");
  ASSERT_TRUE(deep.ok());
  EXPECT_FALSE(deep->parent_exists);
  EXPECT_EQ(deep->path, root_ + "/allowed/t/u/v");
}

// Who owns a directory on the way can exchange it for a link at any time. What was resolved is used
// without following links, so that nothing is ever made where the link leads.
TEST_F(PathPolicyTest, LinksThatAppearDuringACallLeadNowhere) {
  const PathPolicy& policy = Policy({root_ + "/allowed"});
  const std::string here = root_ + "/allowed/here";
  const std::string link = root_ + "/allowed/link";
  ASSERT_EQ(mkdir(here.c_str(), 0700), 0);
  ASSERT_EQ(symlink((root_ + "/other").c_str(), link.c_str()), 0);
  std::atomic<bool> stop = false;
  std::thread swapping([&] {
    while (!stop) renameat2(AT_FDCWD, here.c_str(), AT_FDCWD, link.c_str(), RENAME_EXCHANGE);
  });
  int made = 0;
  int outside = 0;  // Seen when the path was resolved.
  int late = 0;     // Seen when it was used.
  bool escaped = false;
  for (int i = 0; i < 1'000'000 && !escaped && (made < 50 || outside < 50 || late < 50); ++i) {
    const absl::StatusOr<ResolvedPath> target = policy.Resolve("target", here + "/t");
    if (!target.ok()) {
      if (ReasonOf(target.status()) == "PATH_NOT_ALLOWED") ++outside;
      continue;
    }
    const absl::Status done = PosixIo().MakeDir(target->path, 0700);
    made += done.ok() ? 1 : 0;
    late += ErrnoOf(done) == ELOOP ? 1 : 0;
    escaped = access((root_ + "/other/t").c_str(), F_OK) == 0;
    RemovePlainDirectory(here + "/t").IgnoreError();
    RemovePlainDirectory(link + "/t").IgnoreError();
  }
  stop = true;
  swapping.join();
  EXPECT_FALSE(escaped) << "a directory was made where the link leads";
  EXPECT_GE(made, 50);
  EXPECT_GE(outside, 50);
  EXPECT_GE(late, 50);
}

// A target with a tab made the keeper's state unreadable for the next program.
TEST_F(PathPolicyTest, LinksToNamesThatNoRecordHoldsAreRefused) {
  const PathPolicy& policy = Policy({root_ + "/allowed"});
  const std::string link = root_ + "/allowed/odd";
  for (const char* name : {"a\tb", "a\nb", "caf\xe9"}) {
    unlink(link.c_str());
    ASSERT_EQ(symlink(name, link.c_str()), 0);
    const absl::Status status = policy.Resolve("target", link).status();
    EXPECT_EQ(ReasonOf(status), "INVALID_FIELD") << status;
    mkdir((root_ + "/allowed/" + name).c_str(), 0700);
    EXPECT_EQ(ReasonOf(policy.Resolve("target", link).status()), "INVALID_FIELD");
  }
}

TEST_F(PathPolicyTest, LinkLoopsAreRefused) {
  const PathPolicy& policy = Policy({root_ + "/allowed"});
  ASSERT_EQ(symlink("loop", (root_ + "/allowed/loop").c_str()), 0);
  EXPECT_EQ(ReasonOf(policy.Resolve("store", root_ + "/allowed/loop").status()), "INVALID_FIELD");
}

TEST_F(PathPolicyTest, NothingInsideAMountOfOursIsTouched) {
  MountInfoEntry mount;
  mount.mount_point = root_ + "/allowed/m";
  mount.type = "fuse.pbkfs";
  // The mount point does not exist here: a look at it would be noticed.
  const absl::StatusOr<ResolvedPath> inside = ResolvePath(root_ + "/allowed/m/base/1", {mount});
  ASSERT_TRUE(inside.ok());
  EXPECT_EQ(inside->pbkfs_mount, root_ + "/allowed/m");
  const absl::StatusOr<ResolvedPath> itself = ResolvePath(root_ + "/allowed/m", {mount});
  ASSERT_TRUE(itself.ok());
  EXPECT_EQ(itself->pbkfs_mount, root_ + "/allowed/m");
}

TEST(CleanPath, RefusesWhatIsNotAPlainAbsolutePath) {
  EXPECT_EQ(*CleanPath("target", "//a/./b//"), "/a/b");
  for (const char* path : {"", "a/b", "/", "/a/../b", "/a\nb"}) {
    const absl::Status status = CleanPath("target", path).status();
    EXPECT_EQ(ReasonOf(status), "INVALID_FIELD") << path;
    EXPECT_EQ(FieldOf(status), "target") << path;
  }
}

TEST_F(PathPolicyTest, CatalogsThatNobodyMountsAreLeftAloneToo) {
  const std::string catalog = root_ + "/allowed/store";
  EXPECT_TRUE(CheckOutsideCatalogs("target", catalog + "/t").ok());
  ASSERT_EQ(mkdir((catalog + "/backups").c_str(), 0700), 0);
  EXPECT_TRUE(CheckOutsideCatalogs("target", catalog + "/t").ok());
  ASSERT_EQ(mkdir((catalog + "/wal").c_str(), 0700), 0);
  for (const char* path : {"/t", "/backups/t", "/wal/node/deep/t"}) {
    const absl::Status status = CheckOutsideCatalogs("target", catalog + path);
    EXPECT_EQ(ReasonOf(status), "INVALID_FIELD") << path;
    EXPECT_EQ(FieldOf(status), "target") << path;
  }
  // Beside it is not in it.
  EXPECT_TRUE(CheckOutsideCatalogs("target", catalog).ok());
  EXPECT_TRUE(CheckOutsideCatalogs("target", catalog + "2/t").ok());
}

TEST(CheckApart, PathsOfOneMountDoNotContainOneAnother) {
  EXPECT_TRUE(CheckApart({"/s", "/t", "/d"}).ok());
  EXPECT_TRUE(CheckApart({"/s", "/sx", "/d"}).ok());
  EXPECT_EQ(FieldOf(CheckApart({"/s", "/s/t", "/d"})), "target");
  EXPECT_EQ(FieldOf(CheckApart({"/s", "/t", "/t/d"})), "diff_dir");
  EXPECT_EQ(FieldOf(CheckApart({"/s/x", "/t", "/s"})), "diff_dir");
  EXPECT_EQ(ReasonOf(CheckApart({"/s", "/s", "/d"})), "INVALID_FIELD");
}

TEST(CheckApart, MountsMayShareAStoreAndNothingElse) {
  const MountPaths other = {"/s", "/t1", "/d1"};
  EXPECT_TRUE(CheckApartFrom({"/s", "/t2", "/d2"}, other, "m").ok());
  EXPECT_EQ(FieldOf(CheckApartFrom({"/s", "/t1/x", "/d2"}, other, "m")), "target");
  EXPECT_EQ(FieldOf(CheckApartFrom({"/s2", "/s/t", "/d2"}, other, "m")), "target");
  EXPECT_EQ(FieldOf(CheckApartFrom({"/s", "/t2", "/d1/x"}, other, "m")), "diff_dir");
  EXPECT_EQ(FieldOf(CheckApartFrom({"/t1/store", "/t2", "/d2"}, other, "m")), "store");
}

TEST(MountInfo, LinesAreParsedWithEscapes) {
  const auto mounts = ParseMountInfo(
      "36 35 0:45 / /srv/my\\040clone rw,nosuid shared:1 master:2 - fuse.pbkfs pbkfs rw\n"
      "garbage\n"
      "37 35 8:1 / /data rw - ext4 /dev/sda1 rw\n");
  ASSERT_EQ(mounts.size(), 2u);
  EXPECT_EQ(mounts[0].mount_id, 36);
  EXPECT_EQ(mounts[0].mount_point, "/srv/my clone");
  EXPECT_EQ(mounts[0].device, "0:45");
  EXPECT_TRUE(mounts[0].IsPbkfs());
  EXPECT_FALSE(mounts[1].IsPbkfs());
}

}  // namespace
}  // namespace pbkfs
