#include "fs/diff/directory_table.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <vector>

#include "fs/diff/limits.h"
#include "tests/support/memory_tree.h"

namespace pbkfs {
namespace {

using testsupport::MemoryTree;

std::vector<std::string> Names(const DirectoryTable& table, const LowerTree& lower, uint64_t parent,
                               uint64_t after = 0) {
  std::vector<std::string> names;
  table.List(lower, parent, after, [&](absl::string_view name, const DirectoryTable::Entry&) {
    names.emplace_back(name);
    return true;
  });
  return names;
}

class DirectoryTableTest : public testing::Test {
 protected:
  MemoryTree lower_{
      {{"a", {S_IFREG | 0600, "1"}}, {"b", {S_IFREG | 0600, "2"}}, {"d/x", {S_IFREG | 0600, "3"}}}};
  DirectoryTable table_;
};

TEST_F(DirectoryTableTest, AHiddenNameOfTheImageStaysHiddenBehindANewFileOfThatName) {
  table_.Remove(lower_, kRootIno, "a");
  EXPECT_FALSE(table_.Lookup(lower_, kRootIno, "a").has_value());
  table_.Add(kRootIno, "a", {kFirstNewIno, kCookieAddedBase + 1});
  EXPECT_EQ(table_.Lookup(lower_, kRootIno, "a")->ino, kFirstNewIno);
  EXPECT_EQ(Names(table_, lower_, kRootIno), (std::vector<std::string>{"b", "d", "a"}));
  table_.Remove(lower_, kRootIno, "a");
  EXPECT_FALSE(table_.Lookup(lower_, kRootIno, "a").has_value());
}

TEST_F(DirectoryTableTest, AListingGoesOnBehindANameThatWasRemoved) {
  std::vector<uint64_t> cookies;
  table_.List(lower_, kRootIno, 0, [&](absl::string_view, const DirectoryTable::Entry& entry) {
    cookies.push_back(entry.cookie);
    return true;
  });
  ASSERT_EQ(cookies.size(), 3u);
  table_.Remove(lower_, kRootIno, "a");
  EXPECT_EQ(Names(table_, lower_, kRootIno, cookies[0]), (std::vector<std::string>{"b", "d"}));
}

TEST_F(DirectoryTableTest, ADirectoryIsEmptyOnceAllItsNamesAreHidden) {
  const uint64_t directory = table_.Lookup(lower_, kRootIno, "d")->ino;
  EXPECT_FALSE(table_.Empty(lower_, directory));
  table_.Remove(lower_, directory, "x");
  EXPECT_TRUE(table_.Empty(lower_, directory));
}

}  // namespace
}  // namespace pbkfs
