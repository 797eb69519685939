// Images of synthetic chains: names, lengths, bytes, and what damage does.
#include "fs/image/image.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "fs/base/status.h"
#include "fs/image/image_caches.h"
#include "tests/fs/image/image_fixture.h"

namespace pbkfs {
namespace {

TEST_F(ImageTest, SyntheticChainsOfEveryCodecReadAsWritten) {
  for (const ts::Codec codec : ts::kAllCodecs) {
    ts::SyntheticChain shape;
    shape.codec = codec;
    const auto image = MakeImage(ts::WriteSyntheticChain(writer_, shape));
    ASSERT_NE(image, nullptr);
    for (int relation = 0; relation < shape.relations; ++relation) {
      const auto content = Read(*image, ts::SyntheticPath(relation, 0));
      ASSERT_TRUE(content.ok()) << content.status();
      ASSERT_EQ(content->size(), shape.blocks * static_cast<size_t>(kPage));
      for (uint32_t block = 0; block < shape.blocks; ++block) {
        ASSERT_EQ(content->substr(block * kPage, kPage),
                  Text(ts::SyntheticPage(relation, block, shape.backups - 1)))
            << "relation " << relation << " block " << block;
      }
    }
  }
  const ImageCacheFigures figures = caches_->Figures();
  EXPECT_GT(figures.decoded_pages_none, 0u);
  EXPECT_GT(figures.decoded_pages_zlib, 0u);
  EXPECT_GT(figures.decoded_pages_pglz, 0u);
}

TEST_F(ImageTest, TheTreeIsSortedAndLinkedBothWays) {
  auto backup = Begin(ts::BackupMode::kFull);
  backup->AddDirectory("extra", 0750);
  backup->AddFile("extra/file", "x");
  backup->AddFile("extra-file", "y");  // Sorts between the directory and what is in it.
  backup->AddFile("implied/deep/file", "z");
  const auto image = MakeImage(backup->Finish());
  std::string previous;
  for (LowerIno ino = 1; ino <= image->NodeCount(); ++ino) {
    const LowerNode node = *image->Node(ino);
    EXPECT_EQ(node.ino, ino);
    const LowerNode parent = *image->Node(node.parent);
    EXPECT_TRUE(S_ISDIR(parent.mode));
    const auto siblings = image->Children(parent.ino);
    EXPECT_TRUE(std::is_sorted(siblings.begin(), siblings.end()));
    if (ino == kRootIno) continue;
    EXPECT_EQ(image->Lookup(parent.ino, node.name)->ino, ino);
  }
  EXPECT_FALSE(image->Node(0).has_value());
  EXPECT_FALSE(image->Node(image->NodeCount() + 1).has_value());
  EXPECT_FALSE(image->Lookup(kRootIno, "nothing").has_value());
  EXPECT_FALSE(image->Lookup(kRootIno, "extra/file").has_value());
  EXPECT_EQ(image->Node(kRootIno)->mode, S_IFDIR | 0700u);
  EXPECT_EQ(image->Node(kRootIno)->parent, kRootIno);
  EXPECT_EQ(Find(*image, "extra")->mode, S_IFDIR | 0750u);
  EXPECT_EQ(Find(*image, "implied")->mode, S_IFDIR | 0700u);
  EXPECT_EQ(*Read(*image, "implied/deep/file"), "z");
  EXPECT_EQ(Find(*image, "global/pg_control")->mode, S_IFREG | 0600u);
}

TEST_F(ImageTest, WhatRestoreDoesNotCreateIsHidden) {
  auto backup = Begin(ts::BackupMode::kFull);
  ASSERT_NE(backup->Find("database_map"), nullptr);
  for (const char* name : {"tablespace_map", "standby.signal", "recovery.signal"}) {
    backup->AddFile(name, "x");
  }
  backup->AddDirectory("deep");
  backup->AddFile("deep/standby.signal", "x");
  ts::FileOptions external;
  external.external_dir = 1;
  backup->AddFile("outside", "x", external);
  const auto image = MakeImage(backup->Finish());
  for (const char* name :
       {"tablespace_map", "database_map", "standby.signal", "recovery.signal", "outside"}) {
    EXPECT_FALSE(Find(*image, name).has_value()) << name;
  }
  EXPECT_TRUE(Find(*image, "deep/standby.signal").has_value());
  EXPECT_TRUE(image->info().has_standby_signal);
  EXPECT_TRUE(image->info().has_recovery_signal);
  EXPECT_EQ(image->info().system_identifier, 7000000000000000001u);
}

TEST_F(ImageTest, TheListHashDependsOnNamesAndLengthsOnly) {
  const auto hash = [this](const std::string& name, const std::string& content,
                           ts::Codec codec = ts::Codec::kZlib) {
    ts::BackupOptions options;
    options.codec = codec;
    auto backup = Begin(ts::BackupMode::kFull, options);
    backup->AddFile(name, content);
    backup->AddRelation(kRelation, 0, 3, Pages(1));
    return MakeImage(backup->Finish())->ListHash();
  };
  const std::string base = hash("name", "content");
  EXPECT_EQ(base.size(), 64u);
  EXPECT_EQ(base, hash("name", "CONTENT"));
  EXPECT_EQ(base, hash("name", "content", ts::Codec::kPglz));
  EXPECT_NE(base, hash("name", "content+"));
  EXPECT_NE(base, hash("names", "content"));
}

TEST_F(ImageTest, TablespacesAreDirectoriesWhateverOldListsSay) {
  auto backup = Begin(ts::BackupMode::kFull);
  ts::Entry link;
  link.mode = S_IFLNK | 0777;
  link.linked = "/srv/ts";
  link.path = "pg_tblspc/16999";  // The place of the cluster's own tablespace.
  backup->AddEntry(link);
  backup->AddFile("pg_tblspc/16999/PG_15_202209061/5/17001_vm", "content");
  backup->AddDirectory("pg_tblspc/17000");
  const auto image = MakeImage(backup->Finish());
  EXPECT_EQ(Find(*image, "pg_tblspc/16999")->mode, S_IFDIR | 0700u);
  EXPECT_EQ(*Read(*image, "pg_tblspc/16999/PG_15_202209061/5/17001_vm"), "content");
  EXPECT_EQ(ErrnoOf(image->Open(kRootIno).status()), EISDIR);
  EXPECT_EQ(ErrnoOf(image->ReadLink(kRootIno).status()), EINVAL);
  EXPECT_EQ(image->info().tablespaces, (std::vector<uint32_t>{16999, 17000}));
}

// A server would write through them into production.
TEST_F(ImageTest, OtherLinksOfOldListsAreRefused) {
  for (const char* path : {"pg_log", "postgresql.extra.conf", "base/link", "pg_tblspc/1/link"}) {
    auto backup = Begin(ts::BackupMode::kFull);
    ts::Entry link;
    link.path = path;
    link.mode = S_IFLNK | 0777;
    link.linked = "/srv/elsewhere";
    backup->AddEntry(link);
    const absl::Status status = TryImage(backup->Finish()).status();
    EXPECT_EQ(ReasonOf(status), "UNSUPPORTED_FORMAT") << path << ": " << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "'/srv/elsewhere'")) << status;
  }
}

TEST_F(ImageTest, BlocksOfEveryMemberComeTogether) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddRelation(kRelation, 0, 6, Pages(1));
  full->Finish();
  auto delta = Begin(ts::BackupMode::kDelta);
  delta->AddRelation(
      kRelation, 0, 8,
      std::map<uint32_t, ts::Page>{{1, ts::MakePage(2, 1, 1)}, {7, ts::MakePage(2, 1, 7)}});
  const auto image = MakeImage(delta->Finish());
  const auto content = Read(*image, kRelation);
  ASSERT_TRUE(content.ok()) << content.status();
  ASSERT_EQ(content->size(), 8u * kPage);
  for (const uint32_t block : {0u, 2u, 3u, 4u, 5u}) {
    EXPECT_EQ(content->substr(block * kPage, kPage), Text(ts::MakePage(1, 0x4000028, block)));
  }
  EXPECT_EQ(content->substr(kPage, kPage), Text(ts::MakePage(2, 1, 1)));
  EXPECT_EQ(content->substr(6 * kPage, kPage), std::string(kPage, '\0')) << "stored nowhere";
  EXPECT_EQ(content->substr(7 * kPage), Text(ts::MakePage(2, 1, 7)));
}

TEST_F(ImageTest, ReadsMustLieWithinTheFile) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddRelation(kRelation, 0, 2, Pages(1));
  const auto image = MakeImage(full->Finish());
  std::vector<uint8_t> out(100);
  for (const char* path : {kRelation, "PG_VERSION"}) {
    const auto file = *image->Open(Find(*image, path)->ino);
    const int64_t size = file->Size();
    EXPECT_TRUE(file->ReadAt(size, absl::MakeSpan(out).first(0), nullptr).ok());
    for (const int64_t offset : {int64_t{-1}, size - 99, size, size + 1, INT64_MAX}) {
      EXPECT_TRUE(absl::IsOutOfRange(file->ReadAt(offset, absl::MakeSpan(out), nullptr))) << offset;
    }
  }
}

TEST_F(ImageTest, UnknownLengthsComeFromTheHeaders) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddRelation(kRelation, 0, 5, Pages(1));
  full->Find(kRelation)->n_blocks = 0;  // Leaves the key out.
  const std::string full_id = full->Finish();
  EXPECT_EQ(Find(*MakeImage(full_id), kRelation)->size, 5 * kPage);
  auto delta = Begin(ts::BackupMode::kDelta);
  delta->AddUnchangedRelation(kRelation, 0, 0);
  delta->Find(kRelation)->size = -1;
  const auto image = MakeImage(delta->Finish());
  EXPECT_EQ(Find(*image, kRelation)->size, 5 * kPage);
  EXPECT_EQ(Read(*image, kRelation)->size(), 5u * kPage);
}

TEST_F(ImageTest, StaleFilesUnderEmptyEntriesAreNeverOpened) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddFile("stale", "old content");
  full->Find("stale")->size = 0;
  full->AddRelation(kRelation, 0, 5, Pages(1));
  full->Find(kRelation)->size = 0;
  const auto image = MakeImage(full->Finish());
  EXPECT_EQ(*Read(*image, "stale"), "");
  EXPECT_EQ(*Read(*image, kRelation), "");
}

TEST_F(ImageTest, UnchangedCopiesComeFromTheNewestMemberThatHasThem) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddFile("copy", "first");
  full->AddFile("gone", "x");
  full->Finish();
  auto delta1 = Begin(ts::BackupMode::kDelta);
  delta1->AddFile("copy", "second!");
  delta1->Finish();
  auto delta2 = Begin(ts::BackupMode::kDelta);
  delta2->AddUnchangedFile("copy", 7, 0, 0100644);
  const std::string id = delta2->Finish();
  const auto image = MakeImage(id);
  EXPECT_EQ(*Read(*image, "copy"), "second!");
  EXPECT_EQ(Find(*image, "copy")->mode, 0100644u) << "the mode is the tip's";
  auto delta3 = Begin(ts::BackupMode::kDelta);
  delta3->AddUnchangedFile("gone", 1, 0);
  EXPECT_EQ(ReasonOf(TryImage(delta3->Finish()).status()), "CATALOG_CORRUPT");
}

TEST_F(ImageTest, DamagedCopiesAreNotServed) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddFile("good", "content");
  full->AddFile("bad", "content");
  full->AddFile("short", "content");
  const std::string id = full->Finish();
  const auto image = MakeImage(id);
  Damage(Stored(id, "bad"), 3);
  ASSERT_EQ(truncate(Stored(id, "short").c_str(), 3), 0);
  EXPECT_EQ(*Read(*image, "good"), "content");
  for (const char* path : {"bad", "short"}) {
    const absl::Status status = Read(*image, path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_EQ(ErrnoOf(status), EIO);
    EXPECT_TRUE(absl::StrContains(status.message(), id)) << status;
  }
  Damage(Stored(id, "global/pg_control"), 40);
  EXPECT_EQ(TryImage(id).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(ImageTest, CopiesInExternalDirectoriesAreCheckedLikeAllOthers) {
  const auto outside = [](ts::FileOptions options = {}) {
    options.external_dir = 1;
    return options;
  };
  auto full = Begin(ts::BackupMode::kFull);
  full->AddFile("good", "content", outside());
  full->AddFile("bad", "content", outside());
  // Not the cluster's: no CRC of its own is in it.
  full->AddFile("global/pg_control", "content", outside());
  const std::string full_id = full->Finish();
  const auto image = MakeImage(full_id);
  const auto external = image->MakeExternalTree();
  ASSERT_TRUE(external.ok()) << external.status();
  ASSERT_NE(*external, nullptr);
  Damage(absl::StrCat(writer_.BackupDirectory(full_id), "/external_directories/externaldir1/bad"),
         3);
  EXPECT_EQ(*Read(**external, "external/1/good"), "content");
  EXPECT_EQ(*Read(**external, "external/1/global/pg_control"), "content");
  const absl::Status status = Read(**external, "external/1/bad").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_EQ(ErrnoOf(status), EIO);
  EXPECT_TRUE(absl::StrContains(status.message(), full_id)) << status;
}

TEST_F(ImageTest, DamagedPagesFailAloneAndAreCounted) {
  for (const ts::Codec codec : ts::kAllCodecs) {
    ts::BackupOptions options;
    options.codec = codec;
    auto full = Begin(ts::BackupMode::kFull, options);
    full->AddRelation(kRelation, 0, 3, Pages(1));
    const std::string id = full->Finish();
    const auto image = MakeImage(id);
    // Some byte in the payload of the second record.
    const std::string path = Stored(id, kRelation);
    const std::string bytes = ts::ReadWholeFile(path);
    const size_t second = 8 + ts::GetLe(reinterpret_cast<const uint8_t*>(bytes.data()) + 4, 4);
    Damage(path, second + 8 + 500);
    const uint64_t before =
        Count(IoCounter::kPageErrorsChecksum) + Count(IoCounter::kPageErrorsFormat);
    const auto file = *image->Open(Find(*image, kRelation)->ino);
    std::vector<uint8_t> page(kPage);
    EXPECT_TRUE(file->ReadAt(0, absl::MakeSpan(page), &stats_).ok());
    EXPECT_TRUE(file->ReadAt(2 * kPage, absl::MakeSpan(page), &stats_).ok());
    const absl::Status status = file->ReadAt(kPage, absl::MakeSpan(page), &stats_);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_EQ(ErrnoOf(status), EIO);
    EXPECT_TRUE(absl::StrContains(status.message(), "block 1")) << status;
    EXPECT_EQ(Count(IoCounter::kPageErrorsChecksum) + Count(IoCounter::kPageErrorsFormat),
              before + 1);
  }
  EXPECT_GT(Count(IoCounter::kPageErrorsChecksum), 0u);
}

TEST_F(ImageTest, ARecordOfAnotherBlockIsAnError) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddRelation(kRelation, 0, 3, Pages(1));
  const std::string id = full->Finish();
  const auto image = MakeImage(id);
  Damage(Stored(id, kRelation), 0);  // The block number of the first record.
  EXPECT_EQ(ErrnoOf(Read(*image, kRelation).status()), EIO);
  EXPECT_EQ(Count(IoCounter::kPageErrorsFormat), 1u);
}

TEST_F(ImageTest, AZeroPageMustBeZero) {
  ts::BackupOptions options;
  options.codec = ts::Codec::kNone;
  auto full = Begin(ts::BackupMode::kFull, options);
  full->AddRelation(kRelation, 0, 2, Pages(1, ts::PageFill::kZero));
  const std::string id = full->Finish();
  const auto image = MakeImage(id);
  Damage(Stored(id, kRelation), 1000);
  EXPECT_EQ(ErrnoOf(Read(*image, kRelation).status()), EIO);
  EXPECT_EQ(Count(IoCounter::kPageErrorsChecksum), 1u);
}

TEST_F(ImageTest, APageWhoseOwnChecksumFieldIsDamagedIsNotServed) {
  ts::BackupOptions options;
  options.codec = ts::Codec::kNone;
  auto full = Begin(ts::BackupMode::kFull, options);
  full->AddRelation(kRelation, 0, 2, Pages(1));
  const std::string id = full->Finish();
  const auto image = MakeImage(id);
  Damage(Stored(id, kRelation), 8 + 8);  // The checksum does not cover its own field.
  EXPECT_EQ(ErrnoOf(Read(*image, kRelation).status()), EIO);
  EXPECT_EQ(Count(IoCounter::kPageErrorsChecksum), 1u);
}

TEST_F(ImageTest, ACatalogThatChangedIsNotServed) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddRelation(kRelation, 0, 3, Pages(1));
  full->AddFile("copy", "content");
  const std::string id = full->Finish();
  const auto image = MakeImage(id);
  const std::string control = absl::StrCat(writer_.BackupDirectory(id), "/backup.control");
  ts::ReplaceFile(
      control,
      absl::StrReplaceAll(ts::ReadWholeFile(control), {{"status = OK", "status = MERGING"}}), 0600);
  for (const char* path : {kRelation, "copy"}) {
    const absl::Status status = Read(*image, path).status();
    EXPECT_EQ(ErrnoOf(status), EIO) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "MERGING")) << status;
  }
  EXPECT_GT(Count(IoCounter::kPageErrorsIo), 0u);
}

TEST_F(ImageTest, OpenFilesFailWhenTheirCatalogIsGoneAndComeBackWithIt) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddRelation(kRelation, 0, 3, Pages(1));
  full->AddFile("copy", "content");
  full->AddRelation("base/5/20001", 0, 3, Pages(2));
  const std::string id = full->Finish();
  const auto image = MakeImage(id);
  const std::vector<std::string> paths = {kRelation, "copy"};
  std::map<std::string, std::string> before;
  std::vector<std::shared_ptr<const LowerFile>> open_files;
  for (const std::string& path : paths) {
    open_files.push_back(*image->Open(Find(*image, path)->ino));
    before[path] = *Read(*image, path);
  }
  EXPECT_TRUE(image->Health().ok());
  const std::string directory = writer_.BackupDirectory(id);
  const std::string aside = directory_.path() + "/aside";
  std::filesystem::copy(directory, aside, std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(directory);
  const absl::Status health = image->Health();
  EXPECT_EQ(health.code(), absl::StatusCode::kUnavailable);
  for (const std::string& path : paths) {
    const absl::Status status = Read(*image, path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << path << status;
    EXPECT_EQ(ErrnoOf(status), EIO);
  }
  std::filesystem::copy(aside, directory, std::filesystem::copy_options::recursive);
  EXPECT_TRUE(image->Health().ok()) << image->Health();
  for (const std::string& path : paths) EXPECT_EQ(*Read(*image, path), before[path]);
  EXPECT_TRUE(Read(*image, "base/5/20001").ok()) << "first opened after the return";
}

TEST_F(ImageTest, AStoredFileThatIsAnotherOneIsCheckedAsAWhole) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddRelation(kRelation, 0, 3, Pages(1));
  const std::string id = full->Finish();
  ImageCacheOptions options;
  options.decoded_page_bytes = 0;
  caches_ = ImageCaches::Create(options);
  const auto image = MakeImage(id);
  ASSERT_TRUE(Read(*image, kRelation).ok());
  SharedCaches& caches = static_cast<SharedCaches&>(*caches_);
  // The file is replaced by one whose first page still is right.
  std::string bytes = ts::ReadWholeFile(Stored(id, kRelation));
  const std::string good = bytes;
  bytes.back() ^= 1;
  ts::ReplaceFile(Stored(id, kRelation), bytes, 0600);
  caches.stored_files.Forget(1);  // The first image: closes what it has open.
  std::vector<uint8_t> page(kPage);
  const auto file = *image->Open(Find(*image, kRelation)->ino);
  EXPECT_EQ(ErrnoOf(file->ReadAt(0, absl::MakeSpan(page), nullptr)), EIO);
  ts::ReplaceFile(Stored(id, kRelation), good, 0600);
  caches.stored_files.Forget(1);
  EXPECT_TRUE(file->ReadAt(0, absl::MakeSpan(page), nullptr).ok());
}

TEST_F(ImageTest, FilesThatAreNotWhatTheListSaysAreNotOpened) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddFile("link", "content");
  full->AddFile("fifo", "content");
  full->AddDirectory("dir");
  full->AddFile("dir/file", "content");
  const std::string id = full->Finish();
  const auto image = MakeImage(id);
  std::filesystem::remove(Stored(id, "link"));
  ts::WriteWholeFile(directory_.path() + "/secret", "content", 0600);
  std::filesystem::create_symlink(directory_.path() + "/secret", Stored(id, "link"));
  std::filesystem::remove(Stored(id, "fifo"));
  ASSERT_EQ(mkfifo(Stored(id, "fifo").c_str(), 0600), 0);
  std::filesystem::rename(Stored(id, "dir"), directory_.path() + "/moved");
  std::filesystem::create_symlink(directory_.path() + "/moved", Stored(id, "dir"));
  for (const char* path : {"link", "fifo", "dir/file"}) {
    EXPECT_EQ(ErrnoOf(Read(*image, path).status()), EIO) << path;
  }
}

TEST_F(ImageTest, RereadsComeFromTheCacheButScansDoNotFillIt) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddRelation(kRelation, 0, 64, Pages(1));
  const auto image = MakeImage(full->Finish());
  const auto file = *image->Open(Find(*image, kRelation)->ino);
  std::vector<uint8_t> out(64 * kPage);
  ASSERT_TRUE(file->ReadAt(0, absl::MakeSpan(out), &stats_).ok());
  EXPECT_EQ(caches_->Figures().decoded_page_bytes, 0) << "a scan";
  ASSERT_TRUE(file->ReadAt(5 * kPage, absl::MakeSpan(out).first(2 * kPage), &stats_).ok());
  EXPECT_EQ(caches_->Figures().decoded_page_bytes, 2 * kPage);
  EXPECT_EQ(Count(IoCounter::kCacheHits), 0u);
  ASSERT_TRUE(file->ReadAt(5 * kPage + 10, absl::MakeSpan(out).first(kPage), &stats_).ok());
  EXPECT_EQ(Count(IoCounter::kCacheHits), 2u);
  EXPECT_EQ(Count(IoCounter::kCacheMisses), 66u);
  const ImageCacheFigures figures = caches_->Figures();
  EXPECT_EQ(figures.decoded_page_hits, 2u);
  EXPECT_EQ(figures.decoded_page_misses, 66u);
  EXPECT_EQ(figures.page_index_misses, 1u);
  EXPECT_GT(figures.page_index_hits, 0u);
  EXPECT_GT(figures.page_index_budget_bytes, 0);
  EXPECT_LE(figures.decoded_page_budget_bytes, int64_t{64} << 20);
  EXPECT_EQ(*image->Open(Find(*image, kRelation)->ino), file) << "shared while it is open";
}

TEST_F(ImageTest, AnImageThatIsGoneLeavesNoIndexBehind) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddRelation(kRelation, 0, 64, Pages(1));
  auto image = MakeImage(full->Finish());
  auto file = *image->Open(Find(*image, kRelation)->ino);
  std::vector<uint8_t> out(100);
  ASSERT_TRUE(file->ReadAt(0, absl::MakeSpan(out), nullptr).ok());
  image.reset();
  EXPECT_TRUE(file->ReadAt(kPage, absl::MakeSpan(out), nullptr).ok()) << "the file outlives it";
  EXPECT_GT(caches_->Figures().page_index_bytes, 0);
  file.reset();
  EXPECT_EQ(caches_->Figures().page_index_bytes, 0);
}

TEST_F(ImageTest, ABackupWithoutPgControlIsNoCluster) {
  auto full = writer_.Begin(ts::BackupMode::kFull);
  full->AddFile("PG_VERSION", "15\n");
  EXPECT_EQ(ReasonOf(TryImage(full->Finish()).status()), "CATALOG_CORRUPT");
}

}  // namespace
}  // namespace pbkfs
