// page_header_map, the index of a file over a chain, and the cache of indexes.
#include "fs/image/page_index.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "absl/strings/escaping.h"
#include "fs/base/bytes.h"
#include "fs/base/crc32c.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"
#include "fs/image/page_index_cache.h"
#include "tests/support/data_file_writer.h"

namespace pbkfs {
namespace {

namespace ts = testsupport;

absl::Span<const uint8_t> Bytes(const std::string& text) {
  return absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

TEST(HeaderMapTest, TheWorkedExampleIsRead) {
  const std::string blob = absl::HexStringToBytes(
      "7801dbe198c8ce80042e3441383ba0e28c406e191007be42520465fa3121c40028010617");
  FileEntry entry;
  entry.size = 590;
  entry.n_headers = 2;
  entry.hdr_crc = 1934438437;
  entry.compress_alg = CompressAlg::kZlib;
  const auto records = ParseHeaderBlob(Bytes(blob), entry);
  ASSERT_TRUE(records.ok()) << records.status();
  ASSERT_EQ(records->records.size(), 2u);
  EXPECT_EQ(records->records[0].block, 0u);
  EXPECT_EQ(records->records[0].position, 0u);
  EXPECT_EQ(records->records[0].length, 110);
  EXPECT_EQ(records->records[0].checksum, 0x82D0);
  EXPECT_EQ(records->records[1].block, 1u);
  EXPECT_EQ(records->records[1].position, 118u);
  EXPECT_EQ(records->records[1].length, 464);
  EXPECT_EQ(records->records[1].checksum, 0xEA51);

  FileEntry other = entry;
  other.size = 591;
  EXPECT_FALSE(ParseHeaderBlob(Bytes(blob), other).ok()) << "the end does not match the size";
  other = entry;
  other.n_headers = 1;
  EXPECT_FALSE(ParseHeaderBlob(Bytes(blob), other).ok()) << "more records than listed";
  other.n_headers = 3;
  EXPECT_FALSE(ParseHeaderBlob(Bytes(blob), other).ok()) << "fewer records than listed";
  other = entry;
  other.hdr_crc ^= 1;
  EXPECT_FALSE(ParseHeaderBlob(Bytes(blob), other).ok()) << "wrong CRC";
  other = entry;
  other.compress_alg = CompressAlg::kNone;
  EXPECT_FALSE(ParseHeaderBlob(Bytes(blob), other).ok()) << "short records without compression";
  EXPECT_FALSE(ParseHeaderBlob(Bytes(blob.substr(0, 20)), entry).ok()) << "cut off";
}

struct RawRecord {
  int32_t block;
  int32_t position;
};

// A blob with a good CRC over these records; the last one is the end mark.
absl::Status ParseRecords(const std::vector<RawRecord>& records) {
  std::string blob(records.size() * kHeaderRecordBytes, '\0');
  for (size_t i = 0; i < records.size(); ++i) {
    StoreLittleEndian(records[i].block, &blob[i * kHeaderRecordBytes + 8]);
    StoreLittleEndian(records[i].position, &blob[i * kHeaderRecordBytes + 12]);
  }
  FileEntry entry;
  entry.compress_alg = CompressAlg::kZlib;
  entry.n_headers = static_cast<int32_t>(records.size()) - 1;
  entry.size = records.back().position;
  entry.hdr_crc = Crc32c(blob.data(), blob.size());
  return ParseHeaderBlob(Bytes(ts::ZlibCompress(blob, 1)), entry).status();
}

TEST(HeaderMapTest, RecordsThatBreakARuleAreRefused) {
  EXPECT_TRUE(ParseRecords({{0, 0}, {5, 100}, {0, 8300}}).ok());
  EXPECT_FALSE(ParseRecords({{0, 8}, {0, 100}}).ok()) << "does not start at 0";
  EXPECT_FALSE(ParseRecords({{5, 0}, {5, 100}, {0, 200}}).ok()) << "a block twice";
  EXPECT_FALSE(ParseRecords({{5, 0}, {4, 100}, {0, 200}}).ok()) << "blocks descend";
  EXPECT_FALSE(ParseRecords({{-1, 0}, {0, 100}}).ok()) << "negative block";
  EXPECT_FALSE(ParseRecords({{131072, 0}, {0, 100}}).ok()) << "beyond the segment";
  EXPECT_TRUE(ParseRecords({{131071, 0}, {0, 100}}).ok());
  EXPECT_FALSE(ParseRecords({{0, 0}, {0, 8}}).ok()) << "no payload";
  EXPECT_FALSE(ParseRecords({{0, 0}, {0, 8201}}).ok()) << "more than a page";
  EXPECT_FALSE(ParseRecords({{0, 0}, {1, 100}, {0, 50}}).ok()) << "positions descend";
  EXPECT_FALSE(ParseRecords({{0, 0}, {1, 100}, {0, INT32_MIN}}).ok()) << "wild position";
}

// A chain of one file, described by what each member stores, FULL first.
struct Stored {
  int64_t size;      // 1 = "something", -1, 0; or -2: absent.
  int64_t n_blocks;  // -1 = not known.
  std::vector<uint32_t> blocks;
  int64_t cut_at = -1;  // A truncation marker.
};

// What Add and EndMember make of these entries, FULL first; `present` tells which members list the
// file.
ChainFiles FilesOf(std::vector<FileEntry> entries, const std::vector<bool>& present) {
  for (FileEntry& entry : entries) {
    entry.path = "base/1/2";
    entry.mode = S_IFREG | 0600;
  }
  FileList tip;
  tip.Add({entries.back(), ""});
  EXPECT_TRUE(tip.Finish().ok());
  ChainFilesBuilder builder(std::move(tip), entries.size());
  for (size_t i = entries.size() - 1; i-- > 0;) {
    if (present[i]) {
      EXPECT_TRUE(builder.Add(entries[i]).ok());
    }
    EXPECT_TRUE(builder.EndMember().ok());
  }
  return builder.Finish();
}

absl::StatusOr<std::shared_ptr<const PageIndex>> IndexOf(const ChainFiles& files,
                                                         const PageRecordSource& source) {
  return BuildPageIndex(files.HistoryOf(files.list().entries()[0]), source);
}

// The member of each block of the index, "." where there is none; e.g. "00.2".
std::string Sources(const std::vector<Stored>& chain) {
  std::vector<FileEntry> entries(chain.size());
  std::vector<bool> present;
  for (size_t i = 0; i < chain.size(); ++i) {
    entries[i].is_datafile = true;
    entries[i].size = chain[i].size;
    entries[i].n_blocks = chain[i].n_blocks;
    present.push_back(chain[i].size != -2);
  }
  const auto source = [&](size_t member, const FileEntry&) {
    std::vector<PageRecord> records;
    for (const uint32_t block : chain[member].blocks) {
      records.push_back({block, block * 8200, 8192, static_cast<uint16_t>(100 * member + block)});
    }
    return absl::StatusOr<StoredBlocks>(StoredBlocks{records, chain[member].cut_at});
  };
  const auto index = IndexOf(FilesOf(entries, present), source);
  EXPECT_TRUE(index.ok()) << index.status();
  std::string members;
  for (int64_t block = 0; block < (*index)->BlockCount(); ++block) {
    const auto location = (*index)->Find(block);
    if (location.has_value()) {
      EXPECT_EQ(location->position, block * 8200);
      EXPECT_EQ(location->length, 8192);
      EXPECT_EQ(location->checksum, 100 * location->member + block);
    }
    members += location.has_value() ? static_cast<char>('0' + location->member) : '.';
  }
  EXPECT_FALSE((*index)->Find((*index)->BlockCount()).has_value());
  return members;
}

TEST(PageIndexTest, TheSymbolicChainOfTheFormatDocument) {
  const Stored full{1, 4, {0, 1, 2, 3}};
  const Stored delta1{-1, 2, {}};
  const Stored delta2{1, 5, {2, 3, 4}};
  EXPECT_EQ(Sources({full, delta1, delta2}), "00222");
  EXPECT_EQ(Sources({full, delta1}), "00");
  EXPECT_EQ(Sources({full}), "0000");
}

TEST(PageIndexTest, TheNewestMemberWins) {
  EXPECT_EQ(Sources({{1, 4, {0, 1, 2, 3}}, {1, 4, {1, 3}}, {1, 4, {3}}}), "0102");
}

TEST(PageIndexTest, BlocksThatWereCutOffOnceDoNotComeBack) {
  // Truncated to 2 blocks, then grown to 6 with blocks that nobody logged.
  EXPECT_EQ(Sources({{1, 6, {0, 1, 2, 3, 4, 5}}, {1, 2, {1}}, {1, 6, {5}}}), "01...2");
  // The cap comes from every newer member, not only from the next.
  EXPECT_EQ(Sources({{1, 4, {0, 1, 2, 3}}, {-1, 3, {}}, {-1, 4, {}}}), "000");
  // More blocks above the cap than below it must not end the search early.
  EXPECT_EQ(Sources({{1, 4, {0, 1, 2, 3}}, {-1, 2, {}}, {1, 6, {2, 3, 4, 5}}}), "002222");
}

TEST(PageIndexTest, EmptyAndAbsentMembersHideWhatIsOlder) {
  EXPECT_EQ(Sources({{1, 4, {0, 1, 2, 3}}, {0, -1, {}}, {1, 4, {2}}}), "..2");
  EXPECT_EQ(Sources({{1, 4, {0, 1, 2, 3}}, {-2, -1, {}}, {1, 4, {2}}}), "..2");
}

TEST(PageIndexTest, AnUnknownLengthHidesNothing) {
  EXPECT_EQ(Sources({{1, 4, {0, 1, 2, 3}}, {-1, -1, {}}, {1, 4, {2}}}), "0020");
  EXPECT_EQ(Sources({{1, 3, {0, 1, 2}}, {-1, -1, {}}}), "000");
  EXPECT_EQ(Sources({{1, 3, {0, 1, 2}}, {1, -1, {4}}}), "000.1");
}

TEST(PageIndexTest, TheTipsLengthCutsEveryMember) {
  EXPECT_EQ(Sources({{1, 4, {0, 1, 2, 3}}, {1, 2, {1, 2, 3}}}), "01");
}

TEST(PageIndexTest, TruncationMarkersCutWhatIsOlder) {
  // The member with the marker stored block 1 and cut the file to 2 blocks.
  EXPECT_EQ(Sources({{1, -1, {0, 1, 2, 3}}, {1, -1, {1}, 2}}), "01");
  // A newer member made the file longer again; what was cut off stays away.
  EXPECT_EQ(Sources({{1, -1, {0, 1, 2, 3}}, {1, -1, {1}, 2}, {1, -1, {3}}}), "01.2");
  // The marker itself gives the length, also where no block reaches it.
  EXPECT_EQ(Sources({{1, -1, {0}}, {1, -1, {}, 3}}), "0..");
  // The newest marker decides, and older ones still cut.
  EXPECT_EQ(Sources({{1, -1, {0, 1, 2, 3}}, {1, -1, {}, 1}, {1, -1, {}, 3}}), "0..");
  EXPECT_EQ(Sources({{1, -1, {0, 1, 2, 3}}, {1, -1, {}, 3}, {1, -1, {}, 1}}), "0");
  EXPECT_EQ(Sources({{1, -1, {0, 1}}, {1, -1, {}, 0}}), "");
}

TEST(PageIndexTest, ALengthOfZeroBlocksIsALength) {
  EXPECT_EQ(Sources({{1, 4, {0, 1, 2, 3}}, {-1, 0, {}}}), "");
}

TEST(PageIndexTest, TheLargestSegmentKeepsItsNumbers) {
  std::vector<PageRecord> records;
  const uint32_t last = kSegmentBlocks - 1;
  records.push_back({last, static_cast<uint32_t>(kMaxPageStreamBytes - 9), 1, 0xFFFF});
  PageIndexBuilder builder;
  builder.Add(kMaxChainLength - 1, records, kSegmentBlocks);
  const auto index = builder.Finish();
  const auto location = index->Find(last);
  ASSERT_TRUE(location.has_value());
  EXPECT_EQ(location->member, kMaxChainLength - 1);
  EXPECT_EQ(location->position, kMaxPageStreamBytes - 9);
  EXPECT_EQ(location->length, 1);
  EXPECT_EQ(location->checksum, 0xFFFF);
  EXPECT_LE(index->MemoryBytes(), kSegmentBlocks * 10 + 128);
}

// What reading a file of these entries gives, whose members store nothing.
std::string ReasonOfReading(const std::vector<FileEntry>& entries, std::vector<bool> present) {
  const auto source = [](size_t, const FileEntry&) {
    return absl::StatusOr<StoredBlocks>(StoredBlocks());
  };
  return std::string(ReasonOf(IndexOf(FilesOf(entries, present), source).status()));
}

TEST(PageIndexTest, AMemberThatListsAPlainFileIsAContradiction) {
  FileEntry full;
  full.size = 10;
  FileEntry tip;
  tip.is_datafile = true;
  tip.size = -1;
  EXPECT_EQ(ReasonOfReading({full, tip}, {true, true}), "CATALOG_CORRUPT");
}

TEST(PageIndexTest, WhatIsUnchangedSinceABackupThatDoesNotHaveItIsNotZeros) {
  FileEntry stored;
  stored.is_datafile = true;
  stored.size = 8200;
  FileEntry unchanged = stored;
  unchanged.size = -1;
  unchanged.n_blocks = 4;
  EXPECT_EQ(ReasonOfReading({stored, unchanged}, {false, true}), "CATALOG_CORRUPT");
  EXPECT_EQ(ReasonOfReading({stored, stored, unchanged}, {true, false, true}), "CATALOG_CORRUPT");
  EXPECT_EQ(ReasonOfReading({stored, unchanged, stored}, {false, true, true}), "CATALOG_CORRUPT");
  // Stored completely when it was new.
  EXPECT_EQ(ReasonOfReading({stored, stored, unchanged}, {false, true, true}), "");
}

PageIndexCache::IndexPtr MakeIndex(uint32_t blocks) {
  PageIndexBuilder builder;
  const PageRecord record{blocks - 1, 0, 1, 0};
  builder.Add(0, absl::MakeConstSpan(&record, 1), kSegmentBlocks);
  return builder.Finish();
}

TEST(PageIndexCacheTest, ConcurrentFirstUsersBuildOnce) {
  PageIndexCache cache(1 << 20);
  std::atomic<int> builds{0};
  std::atomic<int> arrived{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      ++arrived;
      const auto index = cache.Get(1, 2, [&]() -> absl::StatusOr<PageIndexCache::IndexPtr> {
        ++builds;
        while (arrived < 8) std::this_thread::yield();  // All others ask while this one builds.
        return MakeIndex(10);
      });
      EXPECT_TRUE(index.ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(builds, 1);
  EXPECT_EQ(cache.GetFigures().builds, 1u);
}

TEST(PageIndexCacheTest, AFailureIsTriedAgain) {
  PageIndexCache cache(1 << 20);
  const auto fail = []() -> absl::StatusOr<PageIndexCache::IndexPtr> {
    return absl::DataLossError("damaged");
  };
  EXPECT_FALSE(cache.Get(1, 2, fail).ok());
  EXPECT_TRUE(
      cache.Get(1, 2, [] { return absl::StatusOr<PageIndexCache::IndexPtr>(MakeIndex(1)); }).ok());
  EXPECT_TRUE(cache.Get(1, 2, fail).ok()) << "found without building";
}

TEST(PageIndexCacheTest, TheBudgetIsKeptByDroppingWhatIsOldestAndNotInUse) {
  const int64_t one = MakeIndex(1000)->MemoryBytes();
  PageIndexCache cache(2 * one);
  int builds = 0;
  const auto get = [&](LowerIno ino) {
    return *cache.Get(1, ino, [&]() -> absl::StatusOr<PageIndexCache::IndexPtr> {
      ++builds;
      return MakeIndex(1000);
    });
  };
  const auto held = get(1);
  get(2);
  get(3);
  EXPECT_EQ(cache.GetFigures().bytes, 2 * one);
  EXPECT_EQ(cache.GetFigures().evictions, 1u);
  EXPECT_EQ(get(1), held) << "an index in use stays";
  get(2);
  EXPECT_EQ(builds, 4);
  cache.Forget(1);
  EXPECT_EQ(cache.GetFigures().bytes, 0);
}

}  // namespace
}  // namespace pbkfs
