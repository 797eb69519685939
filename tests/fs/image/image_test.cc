// Images of synthetic chains: names, lengths, bytes, and what damage does.
#include "fs/image/image.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "fs/base/status.h"
#include "tests/support/catalog_writer.h"
#include "tests/support/files.h"
#include "tests/support/synthetic_cluster.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

namespace ts = testsupport;

constexpr char kRelation[] = "base/5/20000";
constexpr int64_t kPage = 8192;

class ImageTest : public testing::Test {
 protected:
  std::unique_ptr<ts::Backup> Begin(ts::BackupMode mode, ts::BackupOptions options = {}) {
    auto backup = writer_.Begin(mode, std::move(options));
    ts::ClusterOptions cluster;
    cluster.wal = false;
    ts::AddMinimalCluster(*backup, cluster);
    return backup;
  }

  absl::StatusOr<std::shared_ptr<const Image>> TryImage(const std::string& id) {
    const auto catalog = Catalog::Open(store_);
    EXPECT_TRUE(catalog.ok()) << catalog.status();
    auto chain = ResolveChain(*(*catalog)->OpenInstance("main"), id, false);
    EXPECT_TRUE(chain.ok()) << chain.status();
    if (!chain.ok()) return chain.status();
    return Image::Create(*chain, caches_);
  }

  std::shared_ptr<const Image> MakeImage(const std::string& id) {
    auto image = TryImage(id);
    EXPECT_TRUE(image.ok()) << image.status();
    return image.ok() ? *image : nullptr;
  }

  static std::optional<LowerNode> Find(const LowerTree& tree, absl::string_view path) {
    std::optional<LowerNode> node = tree.Node(kRootIno);
    for (const absl::string_view name : absl::StrSplit(path, '/')) {
      if (node.has_value()) node = tree.Lookup(node->ino, name);
    }
    return node;
  }

  // The whole content, or the error.
  absl::StatusOr<std::string> Read(const LowerTree& tree, absl::string_view path) {
    const auto node = Find(tree, path);
    if (!node.has_value()) return absl::NotFoundError(path);
    const auto file = tree.Open(node->ino);
    if (!file.ok()) return file.status();
    EXPECT_EQ((*file)->Size(), node->size);
    std::string content(static_cast<size_t>(node->size), '?');
    const absl::Status status = (*file)->ReadAt(
        0, absl::MakeSpan(reinterpret_cast<uint8_t*>(content.data()), content.size()), &stats_);
    if (!status.ok()) return status;
    return content;
  }

  static std::string Text(const ts::Page& page) {
    return std::string(reinterpret_cast<const char*>(page.data()), page.size());
  }

  std::string Stored(const std::string& id, absl::string_view path) {
    return absl::StrCat(writer_.BackupDirectory(id), "/database/", path);
  }

  // Flips one byte in place, as a bad disk does.
  void Damage(const std::string& path, size_t offset) {
    std::string bytes = ts::ReadWholeFile(path);
    ASSERT_LT(offset, bytes.size());
    bytes[offset] ^= 0x10;
    const int fd = open(path.c_str(), O_WRONLY);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(pwrite(fd, &bytes[offset], 1, static_cast<off_t>(offset)), 1);
    close(fd);
  }

  uint64_t Count(IoCounter counter) { return stats_.Snapshot()[counter]; }

  ts::TemporaryDirectory directory_;
  const std::string store_ = directory_.path() + "/catalog";
  ts::CatalogWriter writer_{store_, "main"};
  std::shared_ptr<ImageCaches> caches_ = ImageCaches::Create({});
  IoStats stats_;
};

ts::PageSource Pages(uint64_t seed, ts::PageFill fill = ts::PageFill::kText) {
  return [seed, fill](uint32_t block) {
    return std::optional(ts::MakePage(seed, 0x4000028, block, fill));
  };
}

TEST_F(ImageTest, SyntheticChainsOfEveryCodecReadAsWritten) {
  for (const ts::Codec codec : {ts::Codec::kNone, ts::Codec::kZlib, ts::Codec::kPglz}) {
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

TEST_F(ImageTest, LegacySymlinksAndTablespacesAreShown) {
  auto backup = Begin(ts::BackupMode::kFull);
  ts::Entry link;
  link.path = "pg_tblspc/16999";
  link.mode = S_IFLNK | 0777;
  link.linked = "/srv/ts";
  backup->AddEntry(link);
  backup->AddDirectory("pg_tblspc/17000");
  const auto image = MakeImage(backup->Finish());
  const auto node = Find(*image, "pg_tblspc/16999");
  ASSERT_TRUE(node.has_value());
  EXPECT_EQ(*image->ReadLink(node->ino), "/srv/ts");
  EXPECT_EQ(node->size, 7);
  EXPECT_EQ(ErrnoOf(image->Open(node->ino).status()), EINVAL);
  EXPECT_EQ(ErrnoOf(image->Open(kRootIno).status()), EISDIR);
  EXPECT_EQ(ErrnoOf(image->ReadLink(kRootIno).status()), EINVAL);
  EXPECT_EQ(image->info().tablespaces, (std::vector<uint32_t>{16999, 17000}));
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

TEST_F(ImageTest, DamagedPagesFailAloneAndAreCounted) {
  for (const ts::Codec codec : {ts::Codec::kNone, ts::Codec::kZlib, ts::Codec::kPglz}) {
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

TEST_F(ImageTest, ADamagedHeaderMapFailsItsFileOnly) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddRelation(kRelation, 0, 3, Pages(1));
  full->AddRelation("base/5/20001", 0, 3, Pages(2));
  const auto offset = full->Find(kRelation)->hdr_off;
  const std::string id = full->Finish();
  const auto image = MakeImage(id);
  Damage(absl::StrCat(writer_.BackupDirectory(id), "/page_header_map"),
         static_cast<size_t>(offset) + 10);
  EXPECT_EQ(ErrnoOf(Read(*image, kRelation).status()), EIO);
  EXPECT_TRUE(Read(*image, "base/5/20001").ok());
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

TEST_F(ImageTest, CodecsThatCannotBeDecodedFailTheMount) {
  for (const char* codec : {"lz4", "zstd"}) {
    ts::BackupOptions options;
    options.list_codec_word = codec;
    auto full = Begin(ts::BackupMode::kFull, options);
    full->AddRelation(kRelation, 0, 3, Pages(1));
    const absl::Status status = TryImage(full->Finish()).status();
    EXPECT_EQ(ReasonOf(status), "UNSUPPORTED_FORMAT") << status;
    EXPECT_TRUE(absl::StrContains(status.message(), codec)) << status;
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
