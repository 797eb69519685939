// Backups of versions before 2.4.0, which have no page_header_map, and newer ones whose map is
// missing or damaged: their blocks are found by scans, and scans are kept on disk.
#include <gtest/gtest.h>

#include <filesystem>

#include "fs/base/bytes.h"
#include "fs/image/file_crc.h"
#include "fs/image/image_caches.h"
#include "fs/image/stream_scan.h"
#include "tests/fs/image/image_fixture.h"

namespace pbkfs {
namespace {

constexpr const char* kVersions[] = {"2.0.17", "2.0.18", "2.0.21", "2.0.22", "2.0.24", "2.0.25",
                                     "2.1.3",  "2.2.0",  "2.2.7",  "2.3.0",  "2.3.5",  "2.4.1"};

class OldBackupsTest : public ImageTest {
 protected:
  static ts::BackupOptions Version(const std::string& version, ts::Codec codec = ts::Codec::kZlib) {
    ts::BackupOptions options;
    options.program_version = version;
    options.codec = codec;
    return options;
  }

  // Which seed made each block of the relation, e.g. "1121"; '0' for zeros, '?' for what no seed
  // made.
  std::string Seeds(const LowerTree& tree) {
    const absl::StatusOr<std::string> content = Read(tree, kRelation);
    if (!content.ok()) return std::string(content.status().message());
    std::string seeds;
    for (uint32_t block = 0; block * kPage < static_cast<int64_t>(content->size()); ++block) {
      const std::string page = content->substr(block * kPage, kPage);
      char found = page == std::string(kPage, '\0') ? '0' : '?';
      for (char seed = '1'; seed <= '5'; ++seed) {
        if (page == Text(*Pages(static_cast<uint64_t>(seed - '0'))(block))) found = seed;
      }
      seeds += found;
    }
    return seeds;
  }

  static std::map<uint32_t, ts::Page> Blocks(uint64_t seed, const std::vector<uint32_t>& blocks) {
    std::map<uint32_t, ts::Page> pages;
    for (const uint32_t block : blocks) pages[block] = *Pages(seed)(block);
    return pages;
  }

  uint64_t Scans() { return caches_->Figures().stream_scans; }
};

TEST_F(OldBackupsTest, EveryVersionAndCodecReadsAsWritten) {
  for (const char* version : kVersions) {
    for (const ts::Codec codec : {ts::Codec::kNone, ts::Codec::kZlib, ts::Codec::kPglz}) {
      SCOPED_TRACE(absl::StrCat(version, " codec ", static_cast<int>(codec)));
      auto full = Begin(ts::BackupMode::kFull, Version(version, codec));
      full->AddRelation(kRelation, 0, 5, Pages(1));
      full->AddFile("copy", "content");
      full->AddFile("old", "content of the FULL");
      full->Finish();
      auto delta = Begin(ts::BackupMode::kDelta, Version(version, codec));
      delta->AddRelation(kRelation, 0, 7, Blocks(2, {1, 6}));
      delta->AddFile("copy", "changed");
      const ts::Entry old = *full->Find("old");
      delta->AddUnchangedFile("old", 19, old.crc);
      const auto image = MakeImage(delta->Finish());
      ASSERT_NE(image, nullptr);
      EXPECT_EQ(Seeds(*image), "1211102");
      EXPECT_EQ(*Read(*image, "copy"), "changed");
      EXPECT_EQ(*Read(*image, "old"), "content of the FULL");
      EXPECT_EQ(*Read(*image, "PG_VERSION"), "15\n");
    }
  }
}

TEST_F(OldBackupsTest, AFullOfUnknownLengthIsAsLongAsItsBlocks) {
  auto full = Begin(ts::BackupMode::kFull, Version("2.2.7"));
  full->AddRelation(kRelation, 0, 5, Pages(1));
  ASSERT_EQ(full->Find(kRelation)->n_headers, 0);
  const std::string id = full->Finish();
  const auto image = MakeImage(id);
  EXPECT_EQ(Find(*image, kRelation)->size, 5 * kPage);
  EXPECT_EQ(Seeds(*image), "11111");
  auto page = Begin(ts::BackupMode::kPage, Version("2.2.7"));
  page->AddUnchangedRelation(kRelation, 0, 5);
  EXPECT_EQ(Seeds(*MakeImage(page->Finish())), "11111");
}

TEST_F(OldBackupsTest, TruncationMarkersCutWhatIsOlder) {
  auto full = Begin(ts::BackupMode::kFull, Version("2.2.7"));
  full->AddRelation(kRelation, 0, 6, Pages(1));
  full->Finish();
  auto page1 = Begin(ts::BackupMode::kPage, Version("2.2.7"));
  ts::FileOptions marker;
  marker.truncation_marker = 3;
  page1->AddRelation(kRelation, 0, 3, Blocks(2, {1}), marker);
  EXPECT_EQ(Seeds(*MakeImage(page1->Finish())), "121");
  auto page2 = Begin(ts::BackupMode::kPage, Version("2.2.7"));
  page2->AddRelation(kRelation, 0, 5, Blocks(3, {4}));
  EXPECT_EQ(Seeds(*MakeImage(page2->Finish())), "12103") << "what was cut off stays away";
  auto page3 = Begin(ts::BackupMode::kPage, Version("2.5.16"));
  page3->AddRelation(kRelation, 0, 5, Blocks(4, {0}));
  EXPECT_EQ(Seeds(*MakeImage(page3->Finish())), "42103") << "also below a newer tip";
}

TEST_F(OldBackupsTest, ADeltaBefore23CutsTheFileToItsLength) {
  auto full = Begin(ts::BackupMode::kFull, Version("2.1.3"));
  full->AddRelation(kRelation, 0, 6, Pages(1));
  full->Finish();
  auto delta = Begin(ts::BackupMode::kDelta, Version("2.1.3"));
  delta->AddRelation(kRelation, 0, 3, Blocks(2, {1, 4}));  // Block 4 lies beyond the length.
  EXPECT_EQ(Seeds(*MakeImage(delta->Finish())), "121");
  auto page = Begin(ts::BackupMode::kPage, Version("2.1.3"));
  page->AddRelation(kRelation, 0, 6, Blocks(3, {5}));
  EXPECT_EQ(Seeds(*MakeImage(page->Finish())), "121003");
}

TEST_F(OldBackupsTest, MembersOfDifferentVersionsComeTogether) {
  auto full = Begin(ts::BackupMode::kFull, Version("2.0.22", ts::Codec::kPglz));
  full->AddRelation(kRelation, 0, 6, Pages(1));
  full->Finish();
  auto delta = Begin(ts::BackupMode::kDelta, Version("2.3.5"));
  delta->AddRelation(kRelation, 0, 6, Blocks(2, {1, 2}));
  delta->Finish();
  auto newest = Begin(ts::BackupMode::kDelta, Version("2.5.16", ts::Codec::kNone));
  newest->AddRelation(kRelation, 0, 6, Blocks(3, {2, 5}));
  EXPECT_EQ(Seeds(*MakeImage(newest->Finish())), "123113");
}

TEST_F(OldBackupsTest, DamageOfAStoredFileIsFoundByItsCrc) {
  for (const char* version : {"2.0.21", "2.0.22", "2.3.5"}) {
    auto full = Begin(ts::BackupMode::kFull, Version(version));
    full->AddRelation(kRelation, 0, 5, Pages(1));
    full->AddRelation("base/5/20001", 0, 5, Pages(2));
    full->AddFile("copy", "content");
    for (const char* path : {kRelation, "base/5/20001"}) full->Find(path)->n_blocks = 5;
    const std::string id = full->Finish();
    const std::string bytes = ts::ReadWholeFile(Stored(id, kRelation));
    // The last byte is padding or a payload's end; both count.
    for (const size_t offset : {size_t{0}, size_t{4}, size_t{900}, bytes.size() - 1}) {
      Damage(Stored(id, kRelation), offset);
      const auto image = MakeImage(id);
      if (image == nullptr) continue;  // Lengths before 2.3.0 need the scan already.
      const absl::Status status = Read(*image, kRelation).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
      EXPECT_EQ(ErrnoOf(status), EIO);
      EXPECT_TRUE(Read(*image, "base/5/20001").ok());
      Damage(Stored(id, kRelation), offset);
    }
  }
}

TEST_F(OldBackupsTest, ControlFilesHaveAnOrdinaryCrcBefore2025) {
  for (const char* version : {"2.0.22", "2.0.24", "2.0.25"}) {
    const std::string id = Begin(ts::BackupMode::kFull, Version(version))->Finish();
    EXPECT_NE(MakeImage(id), nullptr) << version;
    Damage(Stored(id, "global/pg_control"), 4000);  // Behind the struct.
    EXPECT_EQ(TryImage(id).status().code(), absl::StatusCode::kDataLoss) << version;
  }
}

TEST_F(OldBackupsTest, MapsThatCannotBeUsedAreReplacedByScans) {
  for (const ts::HeaderMapFault fault :
       {ts::HeaderMapFault::kMissing, ts::HeaderMapFault::kShifted, ts::HeaderMapFault::kDamaged}) {
    SCOPED_TRACE(static_cast<int>(fault));
    ts::BackupOptions options;
    options.header_map = fault;
    auto full = Begin(ts::BackupMode::kFull, options);
    full->AddRelation(kRelation, 0, 5, Pages(1));
    full->Finish();
    auto delta = Begin(ts::BackupMode::kDelta, options);
    delta->AddRelation(kRelation, 0, 6, Blocks(2, {1, 5}));
    const uint64_t before = Scans();
    const auto image = MakeImage(delta->Finish());
    EXPECT_EQ(Seeds(*image), "121112");
    EXPECT_EQ(Scans(), before + 2);
    EXPECT_EQ(Seeds(*image), "121112");
    EXPECT_EQ(Scans(), before + 2) << "the index is kept";
  }
}

TEST_F(OldBackupsTest, ADamagedPartOfAMapCostsAScanOfItsFileOnly) {
  auto full = Begin(ts::BackupMode::kFull);
  full->AddRelation(kRelation, 0, 3, Pages(1));
  full->AddRelation("base/5/20001", 0, 3, Pages(2));
  const auto offset = full->Find(kRelation)->hdr_off;
  const std::string id = full->Finish();
  Damage(absl::StrCat(writer_.BackupDirectory(id), "/page_header_map"),
         static_cast<size_t>(offset) + 10);
  const auto image = MakeImage(id);
  EXPECT_EQ(Seeds(*image), "111");
  EXPECT_EQ(Scans(), 1u);
  EXPECT_TRUE(Read(*image, "base/5/20001").ok());
  EXPECT_EQ(Scans(), 1u);
  // Map and file damaged: nothing is left to rely on.
  Damage(Stored(id, kRelation), 500);
  EXPECT_EQ(ErrnoOf(Read(*MakeImage(id), kRelation).status()), EIO);
}

TEST_F(OldBackupsTest, ScansOutliveTheDaemon) {
  auto full = Begin(ts::BackupMode::kFull, Version("2.3.5"));
  full->AddRelation(kRelation, 0, 5, Pages(1));
  const std::string id = full->Finish();
  ImageCacheOptions options;
  options.index_cache_directory = directory_.path() + "/indexes";
  const auto seeds = [&](uint64_t expected_scans, const char* why) {
    caches_ = ImageCaches::Create(options);
    const std::string result = Seeds(*MakeImage(id));
    EXPECT_EQ(Scans(), expected_scans) << why;
    return result;
  };
  EXPECT_EQ(seeds(1, "the first time"), "11111");
  EXPECT_EQ(seeds(0, "kept"), "11111");
  const std::string kept =
      options.index_cache_directory + "/" + ts::ListDirectory(options.index_cache_directory).at(0);
  for (const size_t at : {size_t{0}, size_t{7}, size_t{30}, ts::ReadWholeFile(kept).size() - 1}) {
    Damage(kept, at);
    EXPECT_EQ(seeds(1, "a damaged entry is no entry"), "11111");
  }
  ASSERT_EQ(truncate(kept.c_str(), 40), 0);
  EXPECT_EQ(seeds(1, "nor is a short one"), "11111");
  EXPECT_EQ(seeds(0, "replaced"), "11111");
  // Another file in the same place, with the same bytes: its identity differs.
  ts::ReplaceFile(Stored(id, kRelation), ts::ReadWholeFile(Stored(id, kRelation)), 0600);
  EXPECT_EQ(seeds(1, "another file"), "11111");
  EXPECT_EQ(ts::ListDirectory(options.index_cache_directory).size(), 1u);
}

TEST(IndexStoreTest, TheOldestEntriesGoFirst) {
  const ts::TemporaryDirectory directory;
  const std::string path = directory.path() + "/indexes";
  StoredBlocks blocks;
  for (uint32_t i = 0; i < 100; ++i) blocks.records.push_back({i, i * 100, 50, 7});
  const auto key = [](int number) { return IndexStoreKey{absl::StrCat("name", number), "v"}; };
  const auto one = static_cast<int64_t>(EncodeIndexEntry(key(1), blocks).size());
  const auto age = [&path](int seconds) {
    for (const std::string& name : ts::ListDirectory(path)) {
      struct stat st;
      ASSERT_EQ(stat((path + "/" + name).c_str(), &st), 0);
      const struct timespec times[2] = {{st.st_mtim.tv_sec - seconds, 0},
                                        {st.st_mtim.tv_sec - seconds, 0}};
      ASSERT_EQ(utimensat(AT_FDCWD, (path + "/" + name).c_str(), times, 0), 0);
    }
  };
  {
    IndexStore store(path, 3 * one);
    for (int i = 1; i <= 3; ++i) {
      store.Put(key(i), blocks);
      age(100);
    }
    EXPECT_TRUE(store.Find(key(1)).has_value());  // Makes it the newest.
    store.Put(key(4), blocks);
    EXPECT_EQ(store.Bytes(), 3 * one);
    EXPECT_TRUE(store.Find(key(1)).has_value());
    EXPECT_FALSE(store.Find(key(2)).has_value());
    EXPECT_EQ(store.Find(key(3))->records.size(), 100u);
    EXPECT_FALSE(store.Find({"name4", "other"}).has_value()) << "no longer valid";
    store.Put({"name4", "other"}, blocks);
    EXPECT_FALSE(store.Find(key(4)).has_value()) << "replaced";
  }
  ts::WriteWholeFile(path + "/7.tmp", "left over", 0600);
  IndexStore smaller(path, one + 10);
  EXPECT_LE(smaller.Bytes(), one + 10);
  EXPECT_EQ(ts::ListDirectory(path).size(), 1u);
  IndexStore none("", 1 << 20);
  none.Put(key(1), blocks);
  EXPECT_FALSE(none.Find(key(1)).has_value());
  IndexStore impossible(directory.path() + "/no/where", 1 << 20);
  impossible.Put(key(1), blocks);
  EXPECT_EQ(impossible.Bytes(), 0);
}

// A stored file given as text, scanned with the rules of a version.
absl::StatusOr<StoredBlocks> Scan(const std::string& bytes, uint32_t version,
                                  CompressAlg algorithm = CompressAlg::kNone,
                                  bool has_checksums = true) {
  FileEntry entry;
  entry.is_datafile = true;
  entry.size = static_cast<int64_t>(bytes.size());
  entry.compress_alg = algorithm;
  const FormatRules rules = FormatRules::Of(version);
  FileCrc crc(rules);
  crc.Update(absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
  entry.crc = crc.value();
  const auto read = [&bytes](int64_t offset, absl::Span<uint8_t> out) {
    EXPECT_LE(offset + static_cast<int64_t>(out.size()), static_cast<int64_t>(bytes.size()));
    memcpy(out.data(), bytes.data() + offset, out.size());
    return absl::OkStatus();
  };
  return ScanStream(read, entry, rules, has_checksums);
}

std::string Record(int32_t block, int32_t length, const std::string& payload) {
  std::string bytes(8, '\0');
  StoreLittleEndian(block, bytes.data());
  StoreLittleEndian(length, bytes.data() + 4);
  return bytes + payload;
}

std::string Raw(uint32_t block) {
  const ts::Page page = ts::MakePage(1, 0x1000, block);
  return std::string(page.begin(), page.end());
}

TEST(StreamScanTest, WhatTheFormatDoesNotAllowIsRefused) {
  const uint32_t now = 20516;
  const auto good = Scan(Record(0, 8192, Raw(0)) + Record(7, 8192, Raw(7)), now);
  ASSERT_TRUE(good.ok()) << good.status();
  ASSERT_EQ(good->records.size(), 2u);
  EXPECT_EQ(good->records[1].block, 7u);
  EXPECT_EQ(good->records[1].position, 8200u);
  EXPECT_FALSE(Scan(Record(0, 8192, Raw(1)), now).ok()) << "the page of another block";
  EXPECT_TRUE(Scan(Record(0, 8192, Raw(1)), now, CompressAlg::kNone, false).ok());
  EXPECT_FALSE(Scan(Record(0, 8192, std::string(8192, 'x')), now).ok()) << "no page";
  EXPECT_TRUE(Scan(Record(0, 8192, std::string(8192, '\0')), now).ok()) << "a zero page";
  EXPECT_FALSE(Scan(Record(7, 8192, Raw(7)) + Record(7, 8192, Raw(7)), now).ok()) << "twice";
  EXPECT_FALSE(Scan(Record(131072, 8192, Raw(131072)), now).ok());
  EXPECT_FALSE(Scan(Record(-1, 8192, Raw(0)), now).ok());
  EXPECT_FALSE(Scan(Record(0, 0, ""), now).ok()) << "the empty block of damaged old files";
  EXPECT_FALSE(Scan(Record(0, 8193, Raw(0) + "x"), now).ok());
  EXPECT_FALSE(Scan(Record(0, -2, ""), now).ok()) << "markers ended with 2.3.0";
  EXPECT_FALSE(Scan(Record(0, 8192, Raw(0)).substr(0, 8000), now).ok());
  EXPECT_FALSE(Scan(Record(0, 8192, Raw(0)) + "1234567", now).ok());
  const std::string small = ts::EncodePage(ts::MakePage(1, 0x1000, 0), ts::Codec::kZlib, 1);
  EXPECT_FALSE(Scan(Record(0, static_cast<int32_t>(small.size()), small), now).ok())
      << "compressed, but the list says none";
  EXPECT_TRUE(
      Scan(Record(0, static_cast<int32_t>(small.size()), small), now, CompressAlg::kZlib).ok());
}

TEST(StreamScanTest, NothingBehindAMarkerCounts) {
  const auto blocks =
      Scan(Record(0, 8192, Raw(0)) + Record(4, -2, "") + Record(9, 8192, "whatever"), 20200);
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_EQ(blocks->cut_at, 4);
  EXPECT_EQ(blocks->records.size(), 1u);
  EXPECT_FALSE(Scan(Record(131073, -2, ""), 20200).ok());
}

TEST(StreamScanTest, ReadErrorsEndTheScan) {
  FileEntry entry;
  entry.size = 8200;
  const auto read = [](int64_t, absl::Span<uint8_t>) { return ErrnoError(EIO, "bad disk"); };
  EXPECT_EQ(ErrnoOf(ScanStream(read, entry, FormatRules(), true).status()), EIO);
}

}  // namespace
}  // namespace pbkfs
