#include "fs/overlay/side_tree.h"

#include <cerrno>
#include <set>

#include "gtest/gtest.h"
#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs::testsupport {
namespace {

class SideTreeTest : public testing::Test {
 protected:
  SideTreeTest() : fixture_({{"PG_VERSION", {S_IFREG | 0600, "15\n"}}}) {
    fixture_.Unmount();
    OverlayOptions options;
    options.side_tree = std::make_shared<MemoryTree>(std::map<std::string, MemoryTree::Entry>{
        {"external/1/file", {S_IFREG | 0640, "bytes of production"}},
        {"external/1/other", {S_IFREG | 0640, ""}}});
    fixture_.Mount(options);
  }
  Overlay& overlay() { return fixture_.overlay(); }
  std::set<std::string> Names(uint64_t directory) {
    std::set<std::string> names;
    EXPECT_TRUE(overlay()
                    .ReadDirectory(directory, 0,
                                   [&](const DirectoryEntry& entry) {
                                     names.emplace(entry.name);
                                     return true;
                                   })
                    .ok());
    return names;
  }

  OverlayFixture fixture_;
};

TEST_F(SideTreeTest, IsReachableByNameAndNotListed) {
  EXPECT_EQ(Names(kRootIno), (std::set<std::string>{".", "..", "PG_VERSION"}));
  const uint64_t directory = fixture_.Ino(".pbkfs/external/1");
  ASSERT_TRUE(IsSideIno(directory));
  EXPECT_EQ(Names(directory), (std::set<std::string>{".", "..", "file", "other"}));
}

TEST_F(SideTreeTest, ANameThatIsTooLongIsRefusedAsOne) {
  const uint64_t directory = fixture_.Ino(".pbkfs/external/1");
  EXPECT_EQ(ErrnoOf(overlay().Lookup(directory, std::string(255, 'n')).status()), ENOENT);
  EXPECT_EQ(ErrnoOf(overlay().Lookup(directory, std::string(256, 'n')).status()), ENAMETOOLONG);
  EXPECT_EQ(ErrnoOf(overlay().Lookup(kRootIno, std::string(256, 'n')).status()), ENAMETOOLONG);
}

TEST_F(SideTreeTest, ReadsUpToTheEnd) {
  const uint64_t file = fixture_.Ino(".pbkfs/external/1/file");
  ASSERT_TRUE(overlay().Open(file).ok());
  std::string bytes(100, '\0');
  const absl::Span<uint8_t> out(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size());
  EXPECT_EQ(*overlay().Read(file, 9, out), 10u);
  EXPECT_EQ(bytes.substr(0, 10), "production");
  EXPECT_EQ(*overlay().Read(file, 1000, out), 0u);
  EXPECT_EQ(overlay().io()[IoCounter::kReadBytesBackup], 10u);
  overlay().Release(file);
  EXPECT_EQ(ErrnoOf(overlay().Read(file, 0, out).status()), EBADF) << "nobody has it open";
}

TEST_F(SideTreeTest, RefusesEveryMutation) {
  const uint64_t directory = fixture_.Ino(".pbkfs/external/1");
  const uint64_t file = fixture_.Ino(".pbkfs/external/1/file");
  const RequestId request;
  NewNode node;
  node.mode = S_IFREG | 0600;
  AttributeChange change;
  change.size = 0;
  const std::string text = "x";
  const absl::Status refused[] = {
      overlay().Create(directory, "new", node, request).status(),
      overlay().Create(kRootIno, ".pbkfs", node, request).status(),
      overlay().Link(file, kRootIno, "link", request).status(),
      overlay().Unlink(directory, "file", request),
      overlay().RemoveDirectory(kRootIno, ".pbkfs", request),
      overlay().Rename(directory, "file", kRootIno, "file", 0, request),
      overlay().Rename(kRootIno, "PG_VERSION", directory, "a", 0, request),
      overlay().Rename(kRootIno, "PG_VERSION", kRootIno, ".pbkfs", 0, request),
      overlay().SetAttributes(file, change).status(),
      overlay().Write(file, 0, Bytes(text)),
      overlay().Allocate(file, 0, 0, 10),
  };
  for (const absl::Status& status : refused) EXPECT_EQ(ErrnoOf(status), EROFS) << status;
  EXPECT_TRUE(overlay().Fsync(file).ok());
}

TEST_F(SideTreeTest, WithoutOneTheNameIsLikeAnyOther) {
  fixture_.Remount();
  EXPECT_EQ(fixture_.Ino(".pbkfs"), 0u);
}

}  // namespace
}  // namespace pbkfs::testsupport
