#include "fs/catalog/wal_reader.h"

#include <random>
#include <vector>

#include "fs/base/status.h"
#include "fs/catalog/wal_tablespaces.h"
#include "gtest/gtest.h"
#include "tests/fs/catalog/wal_writer.h"

namespace pbkfs {
namespace {

constexpr Lsn kBegin = 3 * WalWriter::kSegmentBytes + 40;

// The paths that a scan up to the end of `wal` finds.
std::vector<std::string> Paths(WalWriter& wal, Lsn begin = kBegin) {
  const absl::StatusOr<TablespaceScan> scan = ScanForTablespaces(wal, wal.Start(begin), wal.next());
  EXPECT_TRUE(scan.ok()) << scan.status();
  if (!scan.ok()) return {"(error)"};
  EXPECT_TRUE(scan->problem.ok()) << scan->problem;
  std::vector<std::string> paths;
  for (const TablespaceCreation& creation : scan->creations) paths.push_back(creation.path);
  return paths;
}

TEST(WalReader, NamesSegmentsAsPostgresDoes) {
  EXPECT_EQ(WalSegmentName(1, 0x0A000000FEULL / 0x100 * 0x100 + 0, 16u << 20).size(), 24u);
  EXPECT_EQ(WalSegmentName(1, (uint64_t{0xA} << 32 | 0xFE000000) / (16u << 20), 16u << 20),
            "000000010000000A000000FE");
  EXPECT_EQ(WalSegmentName(0x1F, (uint64_t{2} << 32) / (1u << 30) + 3, 1u << 30),
            "0000001F0000000200000003");
}

TEST(WalReader, FollowsRecordsOverPagesAndSegments) {
  WalWriter wal;
  std::mt19937 random(7);
  std::vector<Lsn> expected;
  for (int i = 0; i < 2000; ++i) {
    // Up to several pages; three segments in all. Every alignment of a header to a page's end.
    const size_t size = i % 50 == 0 ? 30000 : random() % 3000;
    expected.push_back(wal.Append(static_cast<uint8_t>(random() % 20), 0x30,
                                  std::string(size, static_cast<char>(i))));
  }
  ASSERT_GE(wal.segments.size(), 3u);
  absl::StatusOr<WalReader> reader = WalReader::Create(wal, wal.Start(kBegin));
  ASSERT_TRUE(reader.ok()) << reader.status();
  for (const Lsn lsn : expected) {
    const absl::StatusOr<WalRecord> record = reader->Next();
    ASSERT_TRUE(record.ok()) << record.status();
    ASSERT_EQ(record->begin, lsn);
  }
  EXPECT_TRUE(absl::IsDataLoss(reader->Next().status())) << "empty pages follow";
  EXPECT_EQ(reader->position(), wal.next());
}

TEST(WalReader, FindsTablespacesWhereverTheRecordLies) {
  // The record moves over the end of a page byte by byte (in steps of its alignment).
  for (size_t fill = WalWriter::kPageBytes - 300; fill < WalWriter::kPageBytes; fill += 8) {
    WalWriter wal;
    wal.Fill(fill);
    wal.AppendTablespace(16999, "/srv/production/fast");
    wal.Fill(10);
    EXPECT_EQ(Paths(wal), std::vector<std::string>{"/srv/production/fast"}) << fill;
  }
}

TEST(WalReader, GoesOnAfterASwitchOfTheSegment) {
  WalWriter wal;
  wal.Fill(100);
  wal.SwitchSegment();
  wal.AppendTablespace(16999, "/srv/after");
  EXPECT_EQ(Paths(wal), std::vector<std::string>{"/srv/after"});
}

TEST(WalReader, GoesOnAfterARecordThatWasGivenUp) {
  WalWriter wal;
  wal.Fill(6000);
  wal.GiveUpRecord(4000);
  wal.AppendTablespace(16999, "/srv/after");
  EXPECT_EQ(Paths(wal), std::vector<std::string>{"/srv/after"});
}

TEST(WalReader, ReadsPastTheStopLsnAsRecoveryDoes) {
  WalWriter wal;
  wal.Fill(100);
  const Lsn stop = wal.next();
  wal.AppendTablespace(16999, "/srv/late");
  const auto scan = ScanForTablespaces(wal, wal.Start(kBegin), stop);
  ASSERT_TRUE(scan.ok()) << scan.status();
  EXPECT_EQ(scan->creations.size(), 1u);
}

TEST(WalReader, IgnoresOtherRecordsAndTablespacesInPlace) {
  WalWriter wal;
  wal.AppendTablespace(16999, "");
  wal.Append(5, 0x10, "dropped");
  wal.Append(4, 0x00, "a database");
  EXPECT_TRUE(Paths(wal).empty());
}

TEST(WalReader, ReportsATablespaceRecordThatItCannotDecode) {
  WalWriter wal;
  wal.Append(5, 0x00, std::string(30, '\x01'));
  EXPECT_EQ(Paths(wal), std::vector<std::string>{"(unreadable)"});
}

TEST(WalReader, TellsThatASegmentIsMissing) {
  WalWriter wal;
  wal.Fill(2 << 20);
  wal.segments.erase(4);
  const auto scan = ScanForTablespaces(wal, wal.Start(kBegin), wal.next());
  ASSERT_TRUE(scan.ok()) << scan.status();
  EXPECT_TRUE(absl::IsNotFound(scan->problem)) << scan->problem;
}

TEST(WalReader, KeepsOnlyTheBeginningOfALongPayload) {
  WalWriter wal;
  wal.Fill(5 << 20);
  absl::StatusOr<WalReader> reader = WalReader::Create(wal, wal.Start(kBegin));
  ASSERT_TRUE(reader.ok());
  const absl::StatusOr<WalRecord> record = reader->Next();
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->payload_bytes, 5u << 20);
  EXPECT_LE(record->payload.size(), 16u << 10);
}

TEST(WalReader, RefusesImpossibleStarts) {
  WalWriter wal;
  wal.Fill(1);
  WalStart start = wal.Start(kBegin + 1);
  EXPECT_EQ(WalReader::Create(wal, start).status().code(), absl::StatusCode::kInvalidArgument);
  start = wal.Start(kBegin);
  start.segment_bytes = 3 << 20;
  EXPECT_EQ(WalReader::Create(wal, start).status().code(), absl::StatusCode::kInvalidArgument);
  start = wal.Start(kBegin);
  start.server_major = 99;
  EXPECT_EQ(ReasonOf(WalReader::Create(wal, start).status()), reason::kUnsupportedFormat);
}

// Any flipped bit ends the log at or before the record that it hit: nothing behind damage is
// believed, and nothing before it is lost.
TEST(WalReader, AFlippedBitNeverChangesWhatIsFound) {
  WalWriter wal;
  wal.Fill(7900);
  const Lsn hit = wal.AppendTablespace(16999, "/srv/production/fast");
  wal.Fill(9000);
  const Lsn end = wal.next();
  const Lsn first = 3 * WalWriter::kSegmentBytes;
  for (Lsn lsn = first; lsn < end; lsn += lsn < first + 80 || lsn > hit - 64 ? 1 : 97) {
    for (int bit = 0; bit < 8; ++bit) {
      *wal.At(lsn) ^= static_cast<char>(1 << bit);
      const auto scan = ScanForTablespaces(wal, wal.Start(kBegin), end);
      ASSERT_TRUE(scan.ok()) << scan.status();
      for (const TablespaceCreation& creation : scan->creations) {
        ASSERT_EQ(creation.path, "/srv/production/fast") << "bit " << bit << " at " << lsn;
      }
      if (scan->problem.ok()) {
        ASSERT_EQ(scan->creations.size(), 1u) << "bit " << bit << " at " << lsn;
      }
      *wal.At(lsn) ^= static_cast<char>(1 << bit);
    }
  }
}

}  // namespace
}  // namespace pbkfs
