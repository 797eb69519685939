// The primitives of the catalog writer against published values: sections 2 and 14 of the format
// description. That whole catalogs are right is shown by the reader's tests, which share no code
// with the writer.

#include "tests/support/catalog_writer.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>

#include "tests/support/control_text.h"
#include "tests/support/data_file_writer.h"
#include "tests/support/page_format.h"
#include "tests/support/pglz_compressor.h"
#include "tests/support/synthetic_cluster.h"

namespace pbkfs::testsupport {
namespace {

// The decoder of section 6.3, byte by byte.
std::string PglzDecompress(const std::string& input) {
  std::string output;
  size_t position = 0;
  const auto next = [&] { return static_cast<uint8_t>(input.at(position++)); };
  while (position < input.size()) {
    const uint8_t control = next();
    for (int bit = 0; bit < 8 && position < input.size(); ++bit) {
      if ((control >> bit & 1) == 0) {
        output += static_cast<char>(next());
        continue;
      }
      const uint8_t b0 = next();
      size_t length = (b0 & 0x0Fu) + 3;
      const size_t offset = (b0 & 0xF0u) << 4 | next();
      if (length == 18) length += next();
      if (offset == 0 || offset > output.size()) return "bad offset";
      for (size_t i = 0; i < length; ++i) output += output[output.size() - offset];
    }
  }
  return output;
}

std::string FromPage(const Page& page) {
  return std::string(reinterpret_cast<const char*>(page.data()), page.size());
}

TEST(PageFormat, CrcHasThePublishedCheckValue) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(Crc32c("6789", 4, Crc32c("12345")), 0xE3069283u);
  EXPECT_EQ(Crc32c("15\n"), 575108234u) << "the CRC that real backups list for PG_VERSION";
}

TEST(PageFormat, ChecksumMatchesThePublishedVectors) {
  Page page{};
  PutLe(page.data() + 4, 0x01000028, 4);
  PutLe(page.data() + 12, 24, 2);
  PutLe(page.data() + 14, 8192, 2);
  PutLe(page.data() + 16, 8192, 2);
  PutLe(page.data() + 18, 0x2004, 2);
  EXPECT_EQ(PageChecksum(page, 0), 0xCFC8);
  EXPECT_EQ(PageChecksum(page, 1), 0xCFC9);
  EXPECT_EQ(PageChecksum(page, kBlocksPerSegment), 0xCFCA);
  EXPECT_TRUE(HasPlausibleHeader(page));
  EXPECT_EQ(PageLsn(page), 0x01000028u);
}

TEST(PageFormat, MadePagesAreValid) {
  for (PageFill fill : {PageFill::kText, PageFill::kRandom, PageFill::kSparse}) {
    const Page page = MakePage(7, 0x123456789A, 42, fill);
    EXPECT_TRUE(HasPlausibleHeader(page));
    EXPECT_EQ(StoredChecksum(page), PageChecksum(page, 42));
    EXPECT_EQ(PageLsn(page), 0x123456789Au);
  }
  EXPECT_TRUE(IsZeroPage(MakePage(7, 1, 42, PageFill::kZero)));
}

TEST(Pglz, WorkedExamplesAreReproduced) {
  EXPECT_EQ(PglzCompress(std::string(200, ' ')), std::string("\x02\x20\x0F\x01\xB5", 5));
  EXPECT_EQ(PglzDecompress(std::string("\x20\x31\x31\x32\x33\x34\x0D\x04", 8)),
            "112341234123412341234");
  EXPECT_EQ(PglzCompress("112341234123412341234"),
            std::string("\x20\x31\x31\x32\x33\x34\x0D\x04", 8));
}

TEST(Pglz, WhatIsCompressedDecompressesToTheSame) {
  for (PageFill fill : {PageFill::kText, PageFill::kRandom, PageFill::kSparse, PageFill::kZero}) {
    const std::string page = FromPage(MakePage(3, 99, 5, fill));
    EXPECT_EQ(PglzDecompress(PglzCompress(page)), page);
  }
  std::mt19937 random(20260101);
  for (int round = 0; round < 200; ++round) {
    std::string input;
    while (input.size() < kBlockSize) {
      input.append(1 + random() % 300, static_cast<char>('a' + random() % 4));
      input += static_cast<char>(random());
    }
    ASSERT_EQ(PglzDecompress(PglzCompress(input)), input)
        << "round " << round << " of seed 20260101";
  }
}

TEST(EncodePage, AnIncompressiblePageIsStoredRaw) {
  const Page page = MakePage(1, 1, 1, PageFill::kRandom);
  EXPECT_EQ(EncodePage(page, Codec::kZlib, 1), FromPage(page));
  EXPECT_EQ(EncodePage(page, Codec::kPglz, 1), FromPage(page));
  EXPECT_EQ(EncodePage(page, Codec::kNone, 1), FromPage(page));
}

TEST(HeaderBlob, WorkedExampleIsReproduced) {
  HeaderBlob blob;
  blob.Add(0x76141B8, 0, 0, 0x82D0);
  blob.Add(0x76141B8, 1, 118, 0xEA51);
  const std::string bytes = blob.Finish(590);
  ASSERT_EQ(bytes.size(), 72u);
  EXPECT_EQ(Crc32c(bytes), 1934438437u);
  const std::string expected =
      std::string("\x78\x01\xdb\xe1\x98\xc8\xce\x80\x04\x2e\x34\x41\x38\x3b\xa0\xe2", 16) +
      std::string("\x8c\x40\x6e\x19\x10\x07\xbe\x42\x52\x04\x65\xfa\x31\x21\xc4\x00", 16) +
      std::string("\x28\x01\x06\x17", 4);
  EXPECT_EQ(ZlibCompress(bytes, 1), expected);
}

TEST(ControlText, IdsLsnsAndTimesAreWrittenAsDescribed) {
  EXPECT_EQ(FormatBackupId(1795325792), "TOW28W");
  EXPECT_EQ(ParseBackupId("TOW28W"), 1795325792);
  EXPECT_EQ(FormatTime(1795325792), "2026-11-22 05:36:32+00");
  EXPECT_EQ(FormatLsn(0x12000000ABu), "12/AB");
  EXPECT_EQ(ParseLsn("12/AB"), 0x12000000ABu);
  EXPECT_EQ(WalSegmentName(1, 0x4000028, 16u << 20), "000000010000000000000004");
}

TEST(ControlText, ListLineIsReproduced) {
  const std::string line =
      "{\"path\":\"base/16384/16649\", \"size\":\"590\", \"mode\":\"33152\", "
      "\"is_datafile\":\"1\", \"is_cfs\":\"0\","
      " \"crc\":\"3655792722\", \"compress_alg\":\"zlib\", \"external_dir_num\":\"0\", "
      "\"dbOid\":\"16384\","
      "\"full_size\":\"16384\",\"segno\":\"0\",\"n_blocks\":\"2\",\"n_headers\":\"2\",\"hdr_crc\":"
      "\"1934438437\","
      "\"hdr_off\":\"2276\",\"hdr_size\":\"36\"}\n";
  const std::optional<Entry> entry = ParseEntry(line);
  ASSERT_TRUE(entry.has_value());
  EXPECT_EQ(FormatEntry(*entry), line);
}

TEST(ControlText, DataFilesAreToldByTheirPath) {
  int segment = -1;
  EXPECT_TRUE(IsDataFilePath("base/5/1259", &segment));
  EXPECT_EQ(segment, 0);
  EXPECT_TRUE(IsDataFilePath("pg_tblspc/16566/PG_15_202209061/16384/16570.12", &segment));
  EXPECT_EQ(segment, 12);
  EXPECT_TRUE(IsDataFilePath("global/1262", &segment));
  for (const char* path : {"base/5/1259_vm", "base/5/01259", "base/5/1259.01", "global/pg_control",
                           "pg_xact/0000", "base/5/PG_VERSION", "base/1259"}) {
    EXPECT_FALSE(IsDataFilePath(path, &segment)) << path;
  }
  EXPECT_EQ(DatabaseOid("pg_tblspc/16566/PG_15_202209061/16384/16570"), 16384u);
  EXPECT_EQ(DatabaseOid("base/16384"), 16384u);
  EXPECT_EQ(DatabaseOid("global/1262"), 0u);
}

TEST(SyntheticCluster, ControlFileCrcIsFoundWhereItStands) {
  const std::string control = MakePgControl();
  EXPECT_EQ(ControlFileCrc(control), Crc32c(control.data(), 288));
  std::string torn = control;
  torn[40] ^= 1;
  EXPECT_EQ(ControlFileCrc(torn), 0u);
}

// A catalog in a directory of its own.
class CatalogWriterTest : public testing::Test {
 protected:
  CatalogWriterTest() : root_(testing::TempDir() + "catalog_writer_test_XXXXXX") {
    if (mkdtemp(root_.data()) == nullptr) abort();
  }
  ~CatalogWriterTest() override { std::filesystem::remove_all(root_); }

  std::string root_;
};

TEST_F(CatalogWriterTest, DefaultsMakeAChain) {
  CatalogWriter writer(root_, "main");
  const std::string last =
      WriteSyntheticChain(writer, {.relations = 1, .blocks = 32, .backups = 3});
  EXPECT_EQ(writer.NewestUsable(), last);
  const auto control = writer.Control(last);
  const std::string parent = control.at("parent-backup-id");
  EXPECT_LT(ParseBackupId(parent), ParseBackupId(last));
  EXPECT_GT(ParseLsn(control.at("start-lsn")), ParseLsn(writer.Control(parent).at("stop-lsn")));
  const Entry relation = writer.List(last).at("base/5/16384");
  EXPECT_EQ(relation.n_blocks, 32);
  EXPECT_EQ(relation.n_headers, 4 + 2) << "one block in eight changed, and two pages are all zeros";
}

TEST_F(CatalogWriterTest, UnusableBackupsCanBeFabricated) {
  CatalogWriter writer(root_, "main");
  BackupOptions options;
  options.start_time = 1800000000;
  options.block_size = 16384;
  options.program_version = "";
  options.list_codec_word = "lz4";
  options.content_crc = 7;
  const auto full = writer.Begin(BackupMode::kFull, options);
  full->AddRelation("base/5/1", 0, 1, {{0, MakePage(1, 1, 0)}});
  full->Find("base/5/1")->n_blocks = 131073;
  EXPECT_EQ(full->Finish("CORRUPT"), FormatBackupId(1800000000));
  EXPECT_EQ(writer.NewestUsable(), "");

  options = BackupOptions();
  options.parent_id = "MISSING";
  const std::string orphan = writer.Begin(BackupMode::kDelta, options)->Finish("ORPHAN");
  EXPECT_EQ(writer.Control(orphan)["parent-backup-id"], "MISSING");
  EXPECT_EQ(writer.Control(orphan)["status"], "ORPHAN");

  const auto control = writer.Control(full->id());
  EXPECT_EQ(control.at("status"), "CORRUPT");
  EXPECT_EQ(control.at("block-size"), "16384");
  EXPECT_EQ(control.at("content-crc"), "7");
  EXPECT_FALSE(control.contains("program-version"));
  EXPECT_EQ(writer.List(full->id()).at("base/5/1").compress_alg, "lz4");
  EXPECT_EQ(writer.List(full->id()).at("base/5/1").n_blocks, 131073);
}

TEST_F(CatalogWriterTest, NothingStoredInAnIncrementalIsUnchanged) {
  CatalogWriter writer(root_, "main");
  writer.Begin(BackupMode::kFull)->Finish();
  const auto delta = writer.Begin(BackupMode::kDelta);
  delta->AddUnchangedRelation("base/5/1", 0, 10);
  delta->AddUnchangedRelation("base/5/2", 0, 0);
  delta->AddUnchangedFile("PG_VERSION", 3, 575108234);
  const std::string id = delta->Finish();
  EXPECT_EQ(writer.List(id).at("base/5/1").size, -1);
  EXPECT_EQ(writer.List(id).at("base/5/1").n_blocks, 10);
  EXPECT_EQ(writer.List(id).at("base/5/2").size, 0);
  EXPECT_EQ(writer.List(id).at("PG_VERSION").full_size, 3);
  EXPECT_FALSE(std::filesystem::exists(delta->directory() + "/page_header_map"));
}

}  // namespace
}  // namespace pbkfs::testsupport
