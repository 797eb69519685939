#include "fs/catalog/wal_archive.h"

#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "fs/base/status.h"
#include "fs/catalog/archive_wal.h"
#include "fs/catalog/limits.h"
#include "fs/catalog/recovery_scan.h"
#include "fs/catalog/wal_tree.h"
#include "gtest/gtest.h"
#include "tests/fs/catalog/wal_writer.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

constexpr uint32_t kSegment = WalWriter::kSegmentBytes;
constexpr char kName[] = "000000010000000000000003";

std::string Gzip(const std::string& bytes) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(bytes.size() + 1000, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

class WalArchiveTest : public testing::Test {
 protected:
  WalArchiveTest() {
    testsupport::MakeDirectories(root_.path() + "/wal/main", 0700);
    testsupport::MakeDirectories(root_.path() + "/state", 0700);
    unpacked_ = std::make_shared<UnpackedSegments>(root_.path() + "/state");
    auto archive = WalArchive::Open(root_.path(), "main", kSegment, unpacked_);
    EXPECT_TRUE(archive.ok()) << archive.status();
    archive_ = *archive;
    wal_.Fill(kSegment - 300000);
    segment_ = wal_.segments.begin()->second;
  }

  std::string Path(const std::string& name) const { return root_.path() + "/wal/main/" + name; }
  void Put(const std::string& name, const std::string& bytes) const {
    testsupport::ReplaceFile(Path(name), bytes, 0600);
  }

  absl::StatusOr<std::string> Read(const std::string& name) const {
    PBKFS_ASSIGN_OR_RETURN(const ArchivedFile file, archive_->Find(name));
    PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const LowerFile> open, archive_->Open(file));
    return Content(*open);
  }
  static absl::StatusOr<std::string> Content(const LowerFile& file) {
    std::string bytes(static_cast<size_t>(file.Size()), '\0');
    PBKFS_RETURN_IF_ERROR(file.ReadAt(
        0, absl::MakeSpan(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()), nullptr));
    return bytes;
  }

  testsupport::TemporaryDirectory root_;
  std::shared_ptr<UnpackedSegments> unpacked_;
  std::shared_ptr<const WalArchive> archive_;
  WalWriter wal_;
  std::string segment_;
};

TEST_F(WalArchiveTest, EveryFormOfASegmentGivesTheSameBytes) {
  for (const char* form : {".gz", "", ".gz.partial", ".partial"}) {
    const bool packed = absl::StrContains(form, "gz");
    Put(absl::StrCat(kName, form), packed ? Gzip(segment_) : segment_);
    EXPECT_EQ(*Read(kName), segment_) << form;
    unlink(Path(absl::StrCat(kName, form)).c_str());
  }
}

TEST_F(WalArchiveTest, PartialSegmentsEndInZeros) {
  const std::string begin = segment_.substr(0, 300000);
  const std::string whole = begin + std::string(kSegment - begin.size(), '\0');
  Put(absl::StrCat(kName, ".partial"), begin);
  EXPECT_EQ(*Read(kName), whole);
  Put(absl::StrCat(kName, ".gz.partial"), Gzip(begin));
  EXPECT_EQ(*Read(kName), whole);
  Put(kName, segment_);
  EXPECT_EQ(*Read(kName), segment_) << "the whole one counts once it is there";
}

TEST_F(WalArchiveTest, OnlyNamesThatRecoveryAsksForAreFound) {
  for (const char* name : {"000000010000000000000003.00000028.backup", "x", "", "00000002.histor",
                           "000000010000000000001000", "00000001000000000000000a"}) {
    if (*name != '\0') Put(name, segment_);
    EXPECT_TRUE(absl::IsNotFound(archive_->Find(name).status())) << name;
  }
  Put(absl::StrCat(kName, ".part"), segment_);
  EXPECT_TRUE(absl::IsNotFound(archive_->Find(kName).status()));
  Put("00000002.history", "1\t0/300000\tno recovery target specified\n");
  EXPECT_EQ(*Read("00000002.history"), "1\t0/300000\tno recovery target specified\n");
}

TEST_F(WalArchiveTest, DamageIsAnErrorAndNeverPartOfASegment) {
  const std::string packed = Gzip(segment_);
  std::string flipped = packed;
  flipped[packed.size() / 2] = static_cast<char>(flipped[packed.size() / 2] ^ 0x10);
  std::string wrong_crc = packed;
  wrong_crc[packed.size() - 8] = static_cast<char>(wrong_crc[packed.size() - 8] ^ 1);
  const std::string damaged[] = {"",
                                 "plain text",
                                 flipped,
                                 wrong_crc,
                                 packed.substr(0, packed.size() - 1),
                                 packed.substr(0, packed.size() / 2),
                                 packed + "x",
                                 packed + packed,
                                 Gzip(segment_ + "x"),
                                 Gzip(segment_.substr(1))};
  for (const std::string& bytes : damaged) {
    Put(absl::StrCat(kName, ".gz"), bytes);
    const absl::Status status = Read(kName).status();
    EXPECT_EQ(ReasonOf(status), reason::kCatalogCorrupt) << bytes.size() << ": " << status;
    EXPECT_EQ(ErrnoOf(status), EIO);
    EXPECT_NE(status.message().find(kName), std::string::npos) << status;
  }
  EXPECT_EQ(unpacked_->Bytes(), 0) << "what failed is not kept";
  Put(absl::StrCat(kName, ".gz"), packed);
  EXPECT_EQ(*Read(kName), segment_) << "a good copy in its place is used";
  unlink(Path(absl::StrCat(kName, ".gz")).c_str());
  for (const std::string& bytes : {segment_.substr(1), segment_ + "x"}) {
    Put(kName, bytes);
    EXPECT_EQ(ReasonOf(Read(kName).status()), reason::kCatalogCorrupt);
  }
}

TEST_F(WalArchiveTest, WhatIsNoRegularFileIsAnError) {
  ASSERT_EQ(symlink("/etc/passwd", Path(kName).c_str()), 0);
  EXPECT_FALSE(Read(kName).ok());
  EXPECT_FALSE(absl::IsNotFound(Read(kName).status())) << "an error is not the archive's end";
  unlink(Path(kName).c_str());
  ASSERT_EQ(mkfifo(Path(kName).c_str(), 0600), 0);
  EXPECT_EQ(ErrnoOf(Read(kName).status()), EIO);
}

TEST_F(WalArchiveTest, AFileThatWasReplacedIsNotTakenForTheOneThatWasFound) {
  Put(kName, segment_);
  const ArchivedFile file = *archive_->Find(kName);
  Put(kName, segment_);
  EXPECT_EQ(ErrnoOf(archive_->Open(file).status()), ESTALE);
  const auto open = archive_->Open(*archive_->Find(kName));
  ASSERT_TRUE(open.ok());
  ASSERT_EQ(truncate(Path(kName).c_str(), 10), 0);
  EXPECT_EQ(ErrnoOf(Content(**open).status()), EIO);
}

TEST_F(WalArchiveTest, SegmentsAreUnpackedOnceForAllAndGivenUpByAge) {
  // More than may stay idle.
  const int count = static_cast<int>(kMaxIdleUnpackedBytes / kSegment) + 20;
  const std::string packed = Gzip(segment_);
  for (int i = 0; i < count; ++i) {
    Put(absl::StrCat(WalSegmentName(1, static_cast<uint64_t>(i), kSegment), ".gz"), packed);
  }
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 4; ++reader) {
    readers.emplace_back([&] {
      for (int i = 0; i < count; ++i) {
        EXPECT_EQ(*Read(WalSegmentName(1, static_cast<uint64_t>(i), kSegment)), segment_);
      }
    });
  }
  for (std::thread& reader : readers) reader.join();
  EXPECT_LE(unpacked_->Bytes(), kMaxIdleUnpackedBytes + 8 * int64_t{kSegment});
  EXPECT_TRUE(testsupport::ListDirectory(root_.path() + "/state").empty()) << "files have no name";
}

TEST_F(WalArchiveTest, TheListHasEveryTimelineWithItsGaps) {
  for (const char* name :
       {"000000010000000000000003.gz", "000000010000000000000004", "000000010000000000000005.gz",
        "000000010000000000000005", "000000010000000000000007.partial",
        "000000020000000000000005.gz.partial", "00000002.history", "000000010000000000000008.part",
        "000000010000000000000003.00000028.backup"}) {
    Put(name, "");
  }
  const auto listed = archive_->ListSegments();
  ASSERT_TRUE(listed.ok()) << listed.status();
  std::string text;
  for (const auto& [timeline, runs] : *listed) {
    for (const SegmentRun& run : runs)
      absl::StrAppend(&text, timeline, ":", run.first, "-", run.last, " ");
  }
  EXPECT_EQ(text, "1:3-5 1:7-7 2:5-5 ");
}

TEST_F(WalArchiveTest, TheTreeFindsByNameWhateverComesAndListsNothing) {
  const auto tree = MakeWalTree(nullptr, archive_, absl::UnixEpoch());
  const auto wal = tree->Lookup(kRootIno, "wal");
  ASSERT_TRUE(wal.has_value());
  EXPECT_EQ(tree->Children(kRootIno).size(), 1u);
  EXPECT_FALSE(tree->Lookup(wal->ino, kName).has_value());
  Put(absl::StrCat(kName, ".partial"), segment_.substr(0, 100));
  const auto partial = tree->Lookup(wal->ino, kName);
  ASSERT_TRUE(partial.has_value()) << "the archive grows";
  EXPECT_EQ(partial->size, kSegment);
  EXPECT_EQ(tree->Lookup(wal->ino, kName)->ino, partial->ino);
  Put(absl::StrCat(kName, ".gz"), Gzip(segment_));
  const auto whole = tree->Lookup(wal->ino, kName);
  ASSERT_TRUE(whole.has_value());
  EXPECT_NE(whole->ino, partial->ino) << "other bytes under the same number could be mixed up";
  EXPECT_EQ(*Content(**tree->Open(whole->ino)), segment_);
  EXPECT_EQ(tree->Node(whole->ino)->name, kName);
  EXPECT_TRUE(tree->Children(wal->ino).empty());
  EXPECT_EQ(tree->NodeCount(), whole->ino);
  EXPECT_FALSE(tree->Node(whole->ino + 1).has_value());
  // The kernel keeps numbers when the process that gave them dies.
  const auto after = MakeWalTree(nullptr, archive_, absl::UnixEpoch());
  const auto again = after->Lookup(wal->ino, kName);
  EXPECT_NE(again->ino, partial->ino);
  EXPECT_FALSE(after->Node(whole->ino).has_value());
}

TEST_F(WalArchiveTest, InTheTreeAnErrorIsAFileThatCannotBeOpened) {
  const auto tree = MakeWalTree(nullptr, archive_, absl::UnixEpoch());
  const LowerIno wal = tree->Lookup(kRootIno, "wal")->ino;
  ASSERT_EQ(symlink("/etc/passwd", Path(kName).c_str()), 0);
  const auto node = tree->Lookup(wal, kName);
  ASSERT_TRUE(node.has_value());
  EXPECT_FALSE(tree->Open(node->ino).ok());
  unlink(Path(kName).c_str());
  EXPECT_FALSE(tree->Lookup(wal, kName).has_value());
  Put(kName, segment_);
  EXPECT_EQ(*Content(**tree->Open(tree->Lookup(wal, kName)->ino)), segment_);
}

TEST_F(WalArchiveTest, WithoutAnArchiveTheDirectoryIsThereAndEmpty) {
  const auto tree = MakeWalTree(nullptr, nullptr, absl::UnixEpoch());
  const auto wal = tree->Lookup(kRootIno, "wal");
  ASSERT_TRUE(wal.has_value());
  EXPECT_FALSE(tree->Lookup(wal->ino, kName).has_value());
  EXPECT_TRUE(
      absl::IsNotFound(WalArchive::Open(root_.path(), "other", kSegment, unpacked_).status()));
}

TEST(TimelineHistory, IsThePathToATimeline) {
  const auto path = ParseTimelineHistory(
      "1\t0/5000000\tno recovery target specified\n# a comment\n\n 3 \t 1/0\tbefore x y\n", 7);
  ASSERT_TRUE(path.ok()) << path.status();
  ASSERT_EQ(path->size(), 3u);
  EXPECT_EQ((*path)[0].timeline, 1u);
  EXPECT_EQ((*path)[0].end, 0x5000000u);
  EXPECT_EQ((*path)[1].begin, 0x5000000u);
  EXPECT_EQ((*path)[1].end, uint64_t{1} << 32);
  EXPECT_EQ((*path)[2].timeline, 7u);
  EXPECT_EQ((*path)[2].end, kMaxLsn);
}

TEST(TimelineHistory, NonsenseIsRefused) {
  for (const char* text : {"x\t0/1\ty", "1", "0\t0/1\tx", "1\t01\tx", "2\t0/2\tx\n1\t0/3\tx",
                           "1\t0/3\tx\n2\t0/2\tx", "7\t0/1\tx", "1\tFFFFFFFF/0\tx"}) {
    EXPECT_EQ(ReasonOf(ParseTimelineHistory(text, 7).status()), reason::kCatalogCorrupt) << text;
  }
}

// Nothing of its own.
class NoWal final : public WalSource {
 public:
  absl::Status ReadSegment(uint32_t, uint64_t, uint32_t, absl::Span<uint8_t>) override {
    return absl::NotFoundError("not in the backup");
  }
};

TEST_F(WalArchiveTest, RecoveryFollowsTheHistoryAndNothingBehindATimelinesEnd) {
  // Timeline 1 goes on after timeline 2 left it.
  WalWriter one;
  one.Fill(1000);
  const Lsn left = one.next();
  WalWriter two = one;
  one.AppendRestorePoint("on one");
  one.Fill(kSegment);
  two.Fill(10);
  two.AppendRestorePoint("on two");
  const auto store = [this](const WalWriter& wal, uint32_t timeline) {
    for (const auto& [number, bytes] : wal.segments) {
      std::string whole = bytes;
      whole.resize(kSegment);
      Put(absl::StrCat(WalSegmentName(timeline, number, kSegment), ".gz"), Gzip(whole));
    }
  };
  store(one, 1);
  store(two, 2);
  Put("00000002.history", absl::StrCat("1\t", FormatLsn(left), "\tno recovery target\n"));
  NoWal none;
  const auto scan = [&](absl::string_view timeline, const std::string& name) {
    const auto path = FindTimelinePath(archive_.get(), 1, 3 * kSegment, timeline);
    EXPECT_TRUE(path.ok()) << path.status();
    ArchiveWal source(archive_.get(), &none, *path, kSegment);
    RecoveryTarget target;
    target.kind = RecoveryTarget::Kind::kName;
    target.name = name;
    const auto found = ScanForRecovery(source, one.Start(3 * kSegment + 40), left, target);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() && found->reached;
  };
  EXPECT_TRUE(scan("current", "on one"));
  EXPECT_FALSE(scan("current", "on two"));
  EXPECT_TRUE(scan("latest", "on two"));
  EXPECT_TRUE(scan("2", "on two"));
  EXPECT_FALSE(scan("latest", "on one"));
  unlink(Path("000000020000000000000003.gz").c_str());
  EXPECT_FALSE(scan("latest", "on one")) << "that part of timeline 1 is not on the path";

  EXPECT_EQ(ReasonOf(FindTimelinePath(archive_.get(), 1, left + 1, "2").status()),
            reason::kTargetUnreachable);
  EXPECT_EQ(ReasonOf(FindTimelinePath(archive_.get(), 1, left, "3").status()),
            reason::kTargetUnreachable);
}

TEST_F(WalArchiveTest, ADamagedSegmentIsNoEndOfTheWal) {
  Put(absl::StrCat(kName, ".gz"), Gzip(segment_).substr(0, 1000));
  NoWal none;
  ArchiveWal source(archive_.get(), &none, {TimelineSpan{1, 0, kMaxLsn}}, kSegment);
  RecoveryTarget target;
  target.kind = RecoveryTarget::Kind::kLatest;
  const auto found =
      ScanForRecovery(source, wal_.Start(3 * kSegment + 40), 3 * kSegment + 40, target);
  EXPECT_EQ(ReasonOf(found.status()), reason::kCatalogCorrupt) << found.status();
}

}  // namespace
}  // namespace pbkfs
