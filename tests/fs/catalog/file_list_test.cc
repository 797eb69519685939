#include "fs/catalog/file_list.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "fs/base/crc32c.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

namespace ts = testsupport;

constexpr char kDataFile[] =
    R"({"path":"base/16384/16649", "size":"590", "mode":"33152", "is_datafile":"1", "is_cfs":"0", )"
    R"("crc":"3655792722", "compress_alg":"zlib", "external_dir_num":"0", )"
    R"("dbOid":"16384","full_size":"16384","segno":"0","n_blocks":"2","n_headers":"2",)"
    R"("hdr_crc":"1934438437","hdr_off":"2276","hdr_size":"36"})"
    "\n";

std::string Line(absl::string_view path, absl::string_view size = "1",
                 absl::string_view mode = "33152", absl::string_view more = "") {
  return absl::StrCat("{\"path\":\"", path, "\", \"size\":\"", size, "\", \"mode\":\"", mode,
                      "\", \"is_datafile\":\"0\", \"crc\":\"0\"", more, "}\n");
}

absl::Status ParseError(const std::string& text) { return FileList::Parse(text).status(); }

TEST(FileListTest, AllKeysOfARealLineAreRead) {
  const auto list = FileList::Parse(kDataFile);
  ASSERT_TRUE(list.ok()) << list.status();
  ASSERT_EQ(list->entries().size(), 1u);
  const FileEntry& entry = list->entries()[0];
  EXPECT_EQ(entry.path, "base/16384/16649");
  EXPECT_EQ(entry.size, 590);
  EXPECT_EQ(entry.mode, 0100600u);
  EXPECT_TRUE(entry.IsPageStream());
  EXPECT_EQ(entry.crc, 3655792722u);
  EXPECT_EQ(entry.compress_alg, CompressAlg::kZlib);
  EXPECT_EQ(entry.db_oid, 16384u);
  EXPECT_EQ(entry.n_blocks, 2);
  EXPECT_EQ(entry.n_headers, 2);
  EXPECT_EQ(entry.hdr_crc, 1934438437u);
  EXPECT_EQ(entry.hdr_off, 2276);
  EXPECT_EQ(entry.hdr_size, 36);
}

TEST(FileListTest, EntriesAreFoundByPathAndDirectory) {
  const auto list = FileList::Parse(absl::StrCat(
      Line("b"), Line("a", "2"), Line("a", "3", "33152", ", \"external_dir_num\":\"1\"")));
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_EQ(list->Find("a")->size, 2);
  EXPECT_EQ(list->Find("a", 1)->size, 3);
  EXPECT_EQ(list->Find("a", 2), nullptr);
  EXPECT_EQ(list->Find("c"), nullptr);
}

TEST(FileListTest, PathsAreTakenAsTheyAreAlthoughNothingIsEscaped) {
  const auto list =
      FileList::Parse(absl::StrCat(Line("a\"b, \"x\":\"y"), Line("\xff\xfe"), Line("a, b")));
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_NE(list->Find("a\"b, \"x\":\"y"), nullptr);
  EXPECT_NE(list->Find("\xff\xfe"), nullptr);
  EXPECT_NE(list->Find("a, b"), nullptr);
}

TEST(FileListTest, PathsThatLeadSomewhereElseAreRefused) {
  for (const char* path :
       {"", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "a//b", "a/", "./a", "a/./b"}) {
    EXPECT_EQ(ReasonOf(ParseError(Line(path))), "CATALOG_CORRUPT") << path;
  }
  EXPECT_FALSE(ParseError(Line(absl::string_view("a\0b", 3))).ok());
  EXPECT_FALSE(ParseError(Line(std::string(kMaxComponentBytes + 1, 'x'))).ok());
  std::string deep = "x";
  while (deep.size() <= kMaxPathBytes) deep += "/x";
  EXPECT_FALSE(ParseError(Line(deep)).ok());
  EXPECT_TRUE(ParseError(Line("..a/b..")).ok());
}

TEST(FileListTest, APathStandsForOneThing) {
  EXPECT_FALSE(ParseError(Line("a") + Line("a")).ok());
  EXPECT_FALSE(ParseError(Line("a") + Line("a/b")).ok());
  EXPECT_FALSE(ParseError(Line("a") + Line("a-b") + Line("a/b/c/d")).ok());
  EXPECT_FALSE(ParseError(Line("a/b") + Line("a/b/c") + Line("a", "0", "16832")).ok());
  EXPECT_TRUE(ParseError(Line("a", "0", "16832") + Line("a/b") + Line("a-b")).ok());
  EXPECT_TRUE(ParseError(Line("a/b/c") + Line("a/b/d")).ok());
}

TEST(FileListTest, NumbersOutOfRangeAreRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {"\"size\":\"590\"", "\"size\":\"-2\""},
      {"\"size\":\"590\"", "\"size\":\"\""},
      {"\"size\":\"590\"", "\"size\":\"12x\""},
      {"\"size\":\"590\"", "\"size\":\"1074790401\""},
      {"\"size\":\"590\"", "\"size\":\"17\""},
      {"\"segno\":\"0\"", "\"segno\":\"32768\""},
      {"\"segno\":\"0\"", "\"segno\":\"-1\""},
      {"\"n_blocks\":\"2\"", "\"n_blocks\":\"131073\""},
      {"\"n_headers\":\"2\"", "\"n_headers\":\"131073\""},
      {"\"n_headers\":\"2\"", "\"n_headers\":\"-1\""},
      {"\"hdr_size\":\"36\"", "\"hdr_size\":\"4000000\""},
      {"\"hdr_off\":\"2276\"", "\"hdr_off\":\"-1\""},
      {"\"hdr_off\":\"2276\"", "\"hdr_off\":\"9223372036854775807\""},
      {"\"crc\":\"3655792722\"", "\"crc\":\"4294967296\""},
      {"\"mode\":\"33152\"", "\"mode\":\"420\""},
      {"\"mode\":\"33152\"", "\"mode\":\"16832\""},
      {"\"mode\":\"33152\"", "\"mode\":\"24960\""},
      {"\"external_dir_num\":\"0\"", "\"external_dir_num\":\"-1\""},
      {"\"is_datafile\":\"1\"", "\"is_datafile\":\"2\""},
  };
  for (const auto& [good, bad] : cases) {
    const std::string text = absl::StrReplaceAll(kDataFile, {{good, bad}});
    ASSERT_NE(text, kDataFile) << good;
    EXPECT_EQ(ReasonOf(ParseError(text)), "CATALOG_CORRUPT") << bad;
  }
}

TEST(FileListTest, AnUnsignedMinusOneOfOldWritersIsMinusOne) {
  const auto list = FileList::Parse(Line("a", "18446744073709551615"));
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_EQ(list->entries()[0].size, -1);
}

TEST(FileListTest, MandatoryKeysMustBeThere) {
  for (const char* key : {"\"size\":\"590\", ", "\"mode\":\"33152\", ", "\"is_datafile\":\"1\", ",
                          "\"crc\":\"3655792722\", ", "{\"path\":\"base/16384/16649\", "}) {
    EXPECT_FALSE(ParseError(absl::StrReplaceAll(kDataFile, {{key, ""}})).ok()) << key;
  }
}

TEST(FileListTest, DamagedLinesNameTheirNumber) {
  const absl::Status status = ParseError(Line("a") + "{\"path\":\"b\", \"size\":\"1\", \"mo\n");
  EXPECT_EQ(ReasonOf(status), "CATALOG_CORRUPT");
  EXPECT_NE(status.message().find("line 2"), absl::string_view::npos) << status;
  EXPECT_FALSE(ParseError("garbage\n").ok());
  EXPECT_FALSE(ParseError(Line("a", "1", "33152", std::string(9000, ' '))).ok());
  const std::string whole = kDataFile;
  for (size_t cut = 1; cut + 1 < whole.size(); ++cut) {
    EXPECT_FALSE(ParseError(whole.substr(0, cut)).ok()) << cut;
  }
}

TEST(FileListTest, CodecsAreKnownByNameAndOthersAreUnsupported) {
  const auto algorithm = [](absl::string_view name) {
    return FileList::Parse(
        Line("a", "1", "33152", absl::StrCat(", \"compress_alg\":\"", name, "\"")));
  };
  EXPECT_EQ(algorithm("none")->entries()[0].compress_alg, CompressAlg::kNone);
  EXPECT_EQ(algorithm("PGLZ")->entries()[0].compress_alg, CompressAlg::kPglz);
  EXPECT_EQ(algorithm("lz4")->entries()[0].compress_alg, CompressAlg::kLz4);
  EXPECT_EQ(algorithm("zstd")->entries()[0].compress_alg, CompressAlg::kZstd);
  for (const char* name : {"brotli", "z", ""}) {
    EXPECT_EQ(ReasonOf(algorithm(name).status()), "UNSUPPORTED_FORMAT") << name;
  }
}

TEST(FileListTest, UnknownKeysAndSpacesAreTolerated) {
  const auto list = FileList::Parse(
      "{\"path\" : \"a\" , \"size\" : \"5\" ,\"mode\":\"33152\",\"new_key\":\"x\" , "
      "\"is_datafile\":\"0\",\"crc\":\"1\" }\n\n");
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_EQ(list->entries()[0].size, 5);
}

// Tight, as writers print it, most of a line is read in another way than with spaces or out of
// order.
TEST(FileListTest, ALineSaysTheSameInEveryForm) {
  const char* const keys[] = {"mode",   "is_datafile", "is_cfs",  "crc",      "compress_alg",
                              "dbOid",  "full_size",   "segno",   "n_blocks", "n_headers",
                              "linked", "hdr_crc",     "hdr_off", "hdr_size", "external_dir_num"};
  const char* const numbers[] = {"0",
                                 "1",
                                 "00",
                                 "2",
                                 "-1",
                                 "-",
                                 "",
                                 "33152",
                                 "16384",
                                 "4294967295",
                                 "x1",
                                 "1x",
                                 "4294967296",
                                 "131072",
                                 "131073",
                                 "99999999999999999",
                                 "999999999999999999",
                                 "9223372036854775807",
                                 "9223372036854775808",
                                 "18446744073709551615",
                                 "-99999999999999999999"};
  std::mt19937 random(1);
  const auto describe = [](const absl::StatusOr<FileList>& list) {
    if (!list.ok()) return list.status().ToString();
    const FileEntry& entry = list->entries()[0];
    return absl::StrCat(entry.size, " ", entry.mode, " ", int{entry.is_datafile}, " ",
                        int{entry.is_cfs}, " ", entry.crc, " ", CompressAlgName(entry.compress_alg),
                        " ", entry.db_oid, " ", entry.segno, " ", entry.n_blocks, " ",
                        entry.n_headers, " ", entry.hdr_crc, " ", entry.hdr_off, " ",
                        entry.hdr_size, " ", entry.external_dir);
  };
  int good = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string tight = "{\"path\":\"a\", \"size\":\"";
    std::string wide = "{ \"path\" : \"a\" , \"size\" : \"";
    const auto add_value = [&](absl::string_view value) {
      absl::StrAppend(&tight, value, "\"");
      absl::StrAppend(&wide, value, "\"");
    };
    // Mostly what is good, so that what follows it is looked at.
    const auto number = [&](absl::string_view key) -> absl::string_view {
      if (random() % 40 == 0) return numbers[random() % std::size(numbers)];
      if (key == "mode") return "33152";
      if (key == "compress_alg") return random() % 2 == 0 ? "zlib" : "NONE";
      return numbers[random() % 2];
    };
    add_value(number("size"));
    for (const char* key : keys) {
      if (random() % 20 == 0) continue;
      const char* const chosen = random() % 50 == 0 ? keys[random() % std::size(keys)] : key;
      absl::StrAppend(&tight, random() % 2 == 0 ? ", " : ",", "\"", chosen, "\":\"");
      absl::StrAppend(&wide, " , \"", chosen, "\" : \"");
      add_value(number(chosen));
    }
    if (random() % 100 == 0) {
      const auto cut = random() % 8;
      tight.resize(tight.size() - std::min<size_t>(cut, 1));
      wide.resize(wide.size() - std::min<size_t>(cut, 1));
    }
    const auto list = FileList::Parse(tight + "}\n");
    good += list.ok() ? 1 : 0;
    ASSERT_EQ(describe(list), describe(FileList::Parse(wide + " }\n"))) << tight;
  }
  EXPECT_GT(good, 5000);
  EXPECT_LT(good, 19000);
}

TEST(FileListTest, LinesAreTheSameHoweverTheFileIsCut) {
  // Lines of many lengths, so that the ends of pieces fall anywhere into them.
  std::string text;
  std::vector<std::string> paths;
  for (int i = 0; text.size() < 600000; ++i) {
    paths.push_back(
        absl::StrCat("base/", i, "/", std::string(static_cast<size_t>(i * 37 % 200 + 1), 'x')));
    absl::StrAppend(&text, Line(paths.back()));
  }
  text.pop_back();  // The last line has no end.
  const ts::TemporaryDirectory directory;
  ts::WriteWholeFile(directory.path() + "/list", text, 0600);
  const UniqueFd above(open(directory.path().c_str(), O_RDONLY | O_DIRECTORY));
  const auto file = OpenRegularBeneath(above.get(), "list");
  ASSERT_TRUE(file.ok()) << file.status();
  size_t seen = 0;
  const auto digest = ReadFileList(*file, [&](const ListedFile& listed) {
    EXPECT_EQ(listed.entry.path, paths[seen++]);
    return absl::OkStatus();
  });
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_TRUE(digest->status.ok()) << digest->status;
  EXPECT_EQ(seen, paths.size());
  EXPECT_EQ(digest->bytes, text.size());
  EXPECT_EQ(digest->crc, Crc32c(text.data(), text.size()));
}

TEST(FileListTest, ABadLineIsToldOfWithTheCrcOfTheWholeFile) {
  const std::string text = absl::StrCat(Line("a"), "{broken}\n", Line("b"));
  const ts::TemporaryDirectory directory;
  ts::WriteWholeFile(directory.path() + "/list", text, 0600);
  const UniqueFd above(open(directory.path().c_str(), O_RDONLY | O_DIRECTORY));
  const auto file = OpenRegularBeneath(above.get(), "list");
  ASSERT_TRUE(file.ok()) << file.status();
  int seen = 0;
  const auto digest = ReadFileList(*file, [&seen](const ListedFile&) {
    ++seen;
    return absl::OkStatus();
  });
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_NE(digest->status.message().find("line 2"), absl::string_view::npos) << digest->status;
  EXPECT_EQ(seen, 1);
  EXPECT_EQ(digest->crc, Crc32c(text.data(), text.size()));
}

}  // namespace
}  // namespace pbkfs
