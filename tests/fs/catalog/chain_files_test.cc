// What is kept of the lists of a chain. Which blocks of a page stream show is tested in
// tests/fs/image/page_index_test.cc.
#include "fs/catalog/chain_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <utility>
#include <vector>

#include "fs/base/status.h"

namespace pbkfs {
namespace {

FileEntry Entry(absl::string_view path, int64_t size) {
  FileEntry entry;
  entry.path = path;
  entry.size = size;
  entry.mode = S_IFREG | 0600;
  return entry;
}

FileEntry Stream(absl::string_view path, int64_t size, int32_t n_blocks) {
  FileEntry entry = Entry(path, size);
  entry.is_datafile = true;
  entry.n_blocks = n_blocks;
  return entry;
}

FileList ListOf(const std::vector<FileEntry>& entries) {
  FileList list;
  for (const FileEntry& entry : entries) list.Add({entry, ""});
  EXPECT_TRUE(list.Finish().ok());
  return list;
}

// Adds the older members, the newest of them first; the first error.
absl::Status AddAll(ChainFilesBuilder& builder, const std::vector<std::vector<FileEntry>>& older) {
  for (const std::vector<FileEntry>& entries : older) {
    for (const FileEntry& entry : entries) PBKFS_RETURN_IF_ERROR(builder.Add(entry));
    PBKFS_RETURN_IF_ERROR(builder.EndMember());
  }
  return absl::OkStatus();
}

TEST(ChainFilesTest, OnlyWhatIsStoredOfTheTipsFilesIsKept) {
  ChainFilesBuilder builder(
      ListOf({Stream("base/5/1", 100, 8), Stream("base/5/2", -1, 4), Entry("copy", -1)}), 3);
  FileEntry outside = Entry("copy", 9);
  outside.external_dir = 1;
  ASSERT_TRUE(AddAll(builder, {{Entry("copy", -1), Stream("base/5/2", -1, 3),
                                Stream("base/5/1", 50, 5), Stream("dropped", 10, 1)},
                               {outside, Stream("base/5/1", 80, 6), Stream("base/5/2", 70, 9),
                                Entry("copy", 7)}})
                  .ok());
  const ChainFiles files = builder.Finish();
  const auto history = [&files](const char* path) {
    return files.HistoryOf(*files.list().Find(path));
  };
  const FileHistory first = history("base/5/1");
  ASSERT_EQ(first.parts.size(), 3u);
  EXPECT_EQ(first.parts[0]->member, 2u);
  EXPECT_EQ(first.parts[0]->entry.size, 100);
  EXPECT_EQ(first.parts[0]->limit, 8);
  EXPECT_EQ(first.parts[1]->member, 1u);
  EXPECT_EQ(first.parts[1]->entry.size, 50);
  EXPECT_EQ(first.parts[1]->limit, 8);
  EXPECT_EQ(first.parts[2]->member, 0u);
  EXPECT_EQ(first.parts[2]->entry.size, 80);
  EXPECT_EQ(first.parts[2]->limit, 5) << "the middle one knew the file to be shorter";
  EXPECT_EQ(first.parts[2]->entry.path.data(), files.list().Find("base/5/1")->path.data());
  const FileHistory second = history("base/5/2");
  ASSERT_EQ(second.parts.size(), 1u);
  EXPECT_EQ(second.parts[0]->limit, 3);
  const FileHistory copy = history("copy");
  ASSERT_EQ(copy.parts.size(), 1u);
  EXPECT_EQ(copy.parts[0]->entry.size, 7);
  EXPECT_EQ(copy.parts[0]->member, 0u);
}

TEST(ChainFilesTest, TheNewestCopyEndsTheSearch) {
  ChainFilesBuilder builder(ListOf({Entry("empty", -1), Entry("new", 5), Entry("copy", -1)}), 3);
  ASSERT_TRUE(AddAll(builder, {{Entry("empty", 0), Entry("copy", 6)},
                               {Entry("empty", 9), Entry("new", 9), Entry("copy", 9)}})
                  .ok());
  const ChainFiles files = builder.Finish();
  EXPECT_TRUE(files.HistoryOf(*files.list().Find("empty")).parts.empty());
  EXPECT_EQ(files.HistoryOf(*files.list().Find("new")).parts.size(), 1u);
  ASSERT_EQ(files.HistoryOf(*files.list().Find("copy")).parts.size(), 1u);
  EXPECT_EQ(files.HistoryOf(*files.list().Find("copy")).parts[0]->entry.size, 6);
}

TEST(ChainFilesTest, ListsThatContradictEachOtherAreRefused) {
  const auto reason = [](const FileEntry& tip, std::vector<std::vector<FileEntry>> older) {
    ChainFilesBuilder builder(ListOf({tip}), older.size() + 1);
    return std::string(ReasonOf(AddAll(builder, older)));
  };
  FileEntry directory = Entry("a", 0);
  directory.mode = S_IFDIR | 0700;
  EXPECT_EQ(reason(Entry("a", -1), {{Entry("a", 1)}}), "");
  EXPECT_EQ(reason(Entry("a", -1), {{Entry("b", 1)}}), "CATALOG_CORRUPT");
  EXPECT_EQ(reason(Entry("a", -1), {{Entry("a", -1)}, {}}), "CATALOG_CORRUPT");
  EXPECT_EQ(reason(Entry("a", -1), {{Stream("a", 1, 1)}}), "CATALOG_CORRUPT");
  EXPECT_EQ(reason(Entry("a", -1), {{directory}}), "CATALOG_CORRUPT");
  EXPECT_EQ(reason(Entry("a", 1), {{Entry("a", 1), Entry("a", 1)}}), "CATALOG_CORRUPT");
  EXPECT_EQ(reason(Entry("a", 1), {{Entry("b", 1), Entry("b", 1)}}), "") << "nobody reads it";
}

}  // namespace
}  // namespace pbkfs
