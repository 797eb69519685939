#include "fs/catalog/recovery_scan.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/fs/catalog/wal_writer.h"

namespace pbkfs {
namespace {

using Kind = RecoveryTarget::Kind;

constexpr Lsn kBegin = 3 * WalWriter::kSegmentBytes + 40;

absl::Time At(int64_t seconds) { return absl::FromUnixSeconds(946684800 + seconds); }

// A backup that ends at `consistent`, and three transactions after it.
class RecoveryScanTest : public testing::Test {
 protected:
  RecoveryScanTest() {
    wal_.Fill(100);
    wal_.AppendTransactionEnd(499, 10);
    consistent_ = wal_.next();
    wal_.AppendRestorePoint("first");
    after_first_ = wal_.next();
    before_500_ = wal_.next();
    begin_500_ = wal_.AppendTransactionEnd(500, 20);
    after_500_ = wal_.next();
    wal_.Fill(20000);
    begin_abort_ = wal_.AppendTransactionEnd(501, 30, 0x20);
    after_abort_ = wal_.next();
    wal_.AppendRestorePoint("second");
    after_second_ = wal_.next();
    wal_.AppendTransactionEnd(502, 40);
  }

  RecoveryScan Scan(const RecoveryTarget& target, Lsn limit = kMaxLsn) {
    const auto scan = ScanForRecovery(wal_, wal_.Start(kBegin), consistent_, target, limit);
    EXPECT_TRUE(scan.ok()) << scan.status();
    return scan.ok() ? *scan : RecoveryScan();
  }
  static RecoveryTarget Target(Kind kind) {
    RecoveryTarget target;
    target.kind = kind;
    return target;
  }
  void ExpectStop(const RecoveryTarget& target, Lsn end) {
    const RecoveryScan scan = Scan(target);
    EXPECT_TRUE(scan.reached) << scan.problem;
    EXPECT_FALSE(scan.too_early);
    EXPECT_EQ(FormatLsn(scan.end), FormatLsn(end));
  }

  WalWriter wal_;
  Lsn consistent_, after_first_, before_500_, begin_500_, after_500_, begin_abort_, after_abort_,
      after_second_;
};

TEST_F(RecoveryScanTest, ImmediateStopsAtTheBackupsEnd) {
  ExpectStop(Target(Kind::kImmediate), consistent_);
}

TEST_F(RecoveryScanTest, LatestStopsWhereTheWalEnds) {
  const RecoveryScan scan = Scan(Target(Kind::kLatest));
  EXPECT_TRUE(scan.reached);
  EXPECT_EQ(scan.end, wal_.next());
  EXPECT_EQ(scan.last_transaction, At(40));
  EXPECT_FALSE(scan.problem.ok());
}

TEST_F(RecoveryScanTest, XidsStopWithTheTransactionOrBeforeIt) {
  RecoveryTarget target = Target(Kind::kXid);
  target.xid = 500;
  ExpectStop(target, after_500_);
  target.inclusive = false;
  ExpectStop(target, before_500_);
  target.inclusive = true;
  target.xid = 501;  // An abort ends a transaction too.
  ExpectStop(target, after_abort_);
  EXPECT_EQ(Scan(target).last_transaction, At(30));
}

TEST_F(RecoveryScanTest, TimesStopBeforeTheFirstTransactionThatEndedLater) {
  RecoveryTarget target = Target(Kind::kTime);
  target.time = At(30);
  // The record between them is replayed: the next transaction that ends is the one that stops.
  ExpectStop(target, after_second_);
  target.inclusive = false;
  EXPECT_EQ(Scan(target).end, begin_abort_);
  target.time = At(40);
  target.inclusive = true;
  EXPECT_FALSE(Scan(target).reached) << "no transaction ended later: recovery would go on";
  target.time = At(5);
  EXPECT_TRUE(Scan(target).too_early);
}

TEST_F(RecoveryScanTest, LsnsStopWithTheFirstRecordThere) {
  RecoveryTarget target = Target(Kind::kLsn);
  target.lsn = begin_500_;
  ExpectStop(target, after_500_);
  target.lsn = begin_500_ + 8;
  target.inclusive = false;
  ExpectStop(target, after_500_);
  target.lsn = wal_.next();
  EXPECT_FALSE(Scan(target).reached);
  target.lsn = kBegin;
  EXPECT_TRUE(Scan(target).too_early);
}

TEST_F(RecoveryScanTest, NamesStopWithTheirRestorePoint) {
  RecoveryTarget target = Target(Kind::kName);
  target.name = "first";
  ExpectStop(target, after_first_);
  target.name = "second";
  ExpectStop(target, after_second_);
  target.name = "second ";
  EXPECT_FALSE(Scan(target).reached);
  target.name = "second";
  EXPECT_FALSE(Scan(target, after_500_).reached) << "it lies behind the limit";
}

TEST_F(RecoveryScanTest, ATransactionThatWasPreparedIsFoundByItsOwnXid) {
  // Flags: subtransactions, files, and that it was prepared.
  std::string rest(4, '\0');
  StoreLittleEndian<uint32_t>(1 << 1 | 1 << 2 | 1 << 4, rest.data());
  const auto append_number = [&rest](uint32_t number) {
    std::string bytes(4, '\0');
    StoreLittleEndian<uint32_t>(number, bytes.data());
    rest += bytes;
  };
  append_number(2);
  rest += std::string(8, 's');
  append_number(1);
  rest += std::string(12, 'f');
  append_number(777);
  wal_.AppendTransactionEnd(0, 50, 0x30 | 0x80, rest);
  RecoveryTarget target = Target(Kind::kXid);
  target.xid = 777;
  ExpectStop(target, wal_.next());
}

TEST_F(RecoveryScanTest, ALongCommitRecordStillSaysWhenItWas) {
  // As many subtransactions as no reader keeps.
  wal_.AppendTransactionEnd(503, 60, 0x80, std::string(100000, '\x01'));
  EXPECT_EQ(Scan(Target(Kind::kLatest)).last_transaction, At(60));
}

TEST_F(RecoveryScanTest, OnlyTablespacesBeforeTheTargetCount) {
  wal_.AppendTablespace(16999, "/srv/late");
  wal_.AppendTransactionEnd(600, 70);
  RecoveryTarget target = Target(Kind::kName);
  target.name = "second";
  EXPECT_TRUE(Scan(target).creations.empty());
  EXPECT_EQ(Scan(Target(Kind::kLatest)).creations.size(), 1u);
}

TEST_F(RecoveryScanTest, WalThatEndsBeforeTheBackupDoesReachesNothing) {
  wal_.segments.clear();
  for (const Kind kind : {Kind::kImmediate, Kind::kLatest}) {
    const RecoveryScan scan = Scan(Target(kind));
    EXPECT_FALSE(scan.reached);
    EXPECT_TRUE(absl::IsNotFound(scan.problem)) << scan.problem;
  }
}

}  // namespace
}  // namespace pbkfs
