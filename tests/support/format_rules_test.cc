// What old versions of pg_probackup wrote, byte by byte, and the stages of a merge.
#include "tests/support/format_rules.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/support/catalog_variants.h"
#include "tests/support/catalog_writer.h"
#include "tests/support/data_file_writer.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs::testsupport {
namespace {

TEST(FormatRules, CrcsHaveTheirPublishedCheckValues) {
  EXPECT_EQ(FileCrcOf(FileCrc::kCrc32c, "123456789", 9), 0xE3069283u);
  EXPECT_EQ(FileCrcOf(FileCrc::kCrc32, "123456789", 9), 0xCBF43926u);
  EXPECT_EQ(RulesOf("2.0.21").file_crc, FileCrc::kCrc32c);
  EXPECT_EQ(RulesOf("2.0.22").file_crc, FileCrc::kCrc32);
  EXPECT_EQ(RulesOf("2.0.24").file_crc, FileCrc::kCrc32);
  EXPECT_EQ(RulesOf("2.0.25").file_crc, FileCrc::kCrc32c);
}

TEST(FormatRules, RecordsBeforeMapsArePadded) {
  const TemporaryDirectory directory;
  const Page page = MakePage(1, 1, 0);
  const std::string payload = EncodePage(page, Codec::kZlib, 1);
  ASSERT_NE(payload.size() % 8, 0u);
  DataFileWriter writer(directory.path() + "/file", Codec::kZlib, 1, 0, RulesOf("2.3.5"));
  writer.Append(0, page);
  writer.AppendTruncationMarker(7);
  writer.Finish();
  const std::string stored = ReadWholeFile(directory.path() + "/file");
  const size_t marker = 8 + (payload.size() + 7) / 8 * 8;
  ASSERT_EQ(stored.size(), marker + 8);
  EXPECT_EQ(stored.substr(8, payload.size()), payload);
  EXPECT_EQ(stored.substr(marker), std::string("\x07\0\0\0\xFE\xFF\xFF\xFF", 8));
  EXPECT_EQ(writer.crc(), Crc32c(stored));
}

TEST(FormatRules, ListLinesHaveTheKeysOfTheirVersion) {
  Entry entry;
  entry.path = "base/5/1";
  entry.size = -1;
  entry.is_datafile = true;
  entry.n_blocks = -1;
  const std::string oldest = FormatEntry(entry, RulesOf("2.0.17"));
  EXPECT_NE(oldest.find("\"size\":\"18446744073709551615\""), std::string::npos);
  for (const char* key : {"external_dir_num", "dbOid", "n_blocks", "n_headers"}) {
    EXPECT_EQ(oldest.find(key), std::string::npos) << key;
  }
  entry.n_blocks = 0;
  EXPECT_NE(FormatEntry(entry, RulesOf("2.3.5")).find("\"n_blocks\":\"0\""), std::string::npos);
  EXPECT_EQ(FormatEntry(entry, RulesOf("2.4.1")).find("n_blocks"), std::string::npos);
}

TEST(CatalogVariants, NamesAreUniqueAndFound) {
  for (const CatalogVariant& variant : CatalogVariants()) {
    EXPECT_EQ(FindCatalogVariant(variant.name), &variant) << variant.name << " is there twice";
  }
  EXPECT_EQ(FindCatalogVariant("nothing"), nullptr);
}

TEST(CatalogVariants, AMergeGoesOnWhereItStopped) {
  const TemporaryDirectory directory;
  const std::string catalog = directory.path() + "/catalog";
  const std::vector<VariantBackup> backups = FindCatalogVariant("history")->write(catalog, "main");
  const CatalogWriter writer(catalog, "main");
  const std::string& full = backups.front().id;
  const std::string& dest = backups.back().id;
  AdvanceHistoryMerge(catalog, "main", kHistoryGenerations - 1, MergeStage::kMarked);
  EXPECT_EQ(writer.Control(full).at("status"), "MERGING");
  EXPECT_EQ(writer.Control(full).at("merge-dest-id"), dest);
  EXPECT_EQ(writer.Control(dest).at("backup-mode"), "DELTA");
  AdvanceHistoryMerge(catalog, "main", kHistoryGenerations - 1, MergeStage::kMerged);
  EXPECT_EQ(writer.Control(full).at("status"), "MERGED");
  AdvanceHistoryMerge(catalog, "main", kHistoryGenerations - 1, MergeStage::kFinished);
  EXPECT_FALSE(std::filesystem::exists(writer.BackupDirectory(full)));
  EXPECT_EQ(writer.Control(dest).at("status"), "OK");
  EXPECT_EQ(writer.Control(dest).at("backup-mode"), "FULL");
  EXPECT_FALSE(writer.Control(dest).contains("merge-dest-id"));
  EXPECT_FALSE(writer.List(dest).contains("dropped"));
}

}  // namespace
}  // namespace pbkfs::testsupport
