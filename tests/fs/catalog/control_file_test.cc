#include "fs/catalog/control_file.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

ControlFile Parse(absl::string_view text) {
  auto file = ControlFile::Parse(text);
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}

std::string Text(absl::string_view line) {
  std::string value = "(absent)";
  const absl::Status status = Parse(line).GetText("key", value);
  return status.ok() ? value : absl::StrCat("(", ReasonOf(status), ")");
}

TEST(ControlFileTest, ValuesAreReadAsTheSyntaxSays) {
  EXPECT_EQ(Text("key = value"), "value");
  EXPECT_EQ(Text("  key=value   # comment"), "value");
  EXPECT_EQ(Text("key = two words  "), "two words");
  EXPECT_EQ(Text("key = a\tb"), "a");
  EXPECT_EQ(Text("key = 'quoted # text'  # comment"), "quoted # text");
  EXPECT_EQ(Text("key = 'it''s'"), "it's");
  EXPECT_EQ(Text("key ="), "");
  EXPECT_EQ(Text("KEY = upper"), "upper");
  EXPECT_EQ(Text("# key = value"), "(absent)");
  EXPECT_EQ(Text("key = first\nkey = second"), "second");
  EXPECT_EQ(Text("key = value\r\n"), "value");
}

TEST(ControlFileTest, MalformedLinesFailOnlyWhoAsksForThem) {
  EXPECT_EQ(Text("key = 'no end"), "(CATALOG_CORRUPT)");
  EXPECT_EQ(Text("key = 'it's'"), "(CATALOG_CORRUPT)");
  EXPECT_EQ(Text("key value"), "(CATALOG_CORRUPT)");
  EXPECT_EQ(Text(absl::StrCat("key = ", std::string(kMaxControlValueBytes + 1, 'x'))),
            "(CATALOG_CORRUPT)");
  EXPECT_EQ(Text(absl::StrCat("key = '", std::string(kMaxControlLineBytes, 'x'), "'")),
            "(CATALOG_CORRUPT)");
  EXPECT_EQ(Text("note = 'it's broken'\nkey = good"), "good");
}

TEST(ControlFileTest, FilesThatAreNoTextAreRefused) {
  EXPECT_FALSE(ControlFile::Parse(absl::string_view("key = a\0b", 9)).ok());
  EXPECT_FALSE(ControlFile::Parse(std::string(kMaxControlFileBytes + 1, '\n')).ok());
}

TEST(ControlFileTest, DashUnderscoreAndCaseOfKeysDoNotMatter) {
  std::string value;
  ASSERT_TRUE(Parse("Primary_ConnInfo = x").GetText("primary-conninfo", value).ok());
  EXPECT_EQ(value, "x");
}

TEST(ControlFileTest, NumbersAreReadInBaseZero) {
  uint64_t value = 7;
  const auto get = [&](absl::string_view text) {
    return Parse(absl::StrCat("key = ", text)).GetUnsigned("key", 1000, value).ok();
  };
  EXPECT_TRUE(get("12"));
  EXPECT_EQ(value, 12u);
  EXPECT_TRUE(get("010"));
  EXPECT_EQ(value, 8u);
  EXPECT_TRUE(get("0x1F"));
  EXPECT_EQ(value, 31u);
  for (const char* bad : {"", "-1", "1001", "08", "0x", "1x", "99999999999999999999999"}) {
    EXPECT_FALSE(get(bad)) << bad;
  }
  int64_t number = 0;
  EXPECT_TRUE(Parse("key = -5").GetSigned("key", number).ok());
  EXPECT_EQ(number, -5);
}

TEST(ControlFileTest, BooleansTakeEveryUnambiguousForm) {
  for (const char* yes : {"true", "T", "yes", "on", "1"}) {
    bool value = false;
    EXPECT_TRUE(Parse(absl::StrCat("key = ", yes)).GetBool("key", value).ok()) << yes;
    EXPECT_TRUE(value) << yes;
  }
  for (const char* no : {"false", "F", "no", "off", "OF", "0"}) {
    bool value = true;
    EXPECT_TRUE(Parse(absl::StrCat("key = ", no)).GetBool("key", value).ok()) << no;
    EXPECT_FALSE(value) << no;
  }
  bool value;
  EXPECT_FALSE(Parse("key = o").GetBool("key", value).ok());
  EXPECT_FALSE(Parse("key = maybe").GetBool("key", value).ok());
}

TEST(ControlFileTest, TimesAreConvertedToUtc) {
  const auto get = [](absl::string_view text) {
    int64_t value = -1;
    const absl::Status status = Parse(absl::StrCat("key = '", text, "'")).GetTime("key", value);
    return status.ok() ? value : -1;
  };
  EXPECT_EQ(get("2026-11-22 05:36:32+00"), 1795325792);
  EXPECT_EQ(get("2026-11-22 05:36:32"), 1795325792);
  EXPECT_EQ(get("2026-11-22 08:36:32+03"), 1795325792);
  EXPECT_EQ(get("2026-11-22 11:06:32+05:30"), 1795325792);
  EXPECT_EQ(get("2026-11-22 11:06:32+0530"), 1795325792);
  EXPECT_EQ(get("2026-11-21 22:36:32-07"), 1795325792);
  EXPECT_EQ(get("2026-11-22 05:36:42+00:00:10"), 1795325792);
  for (const char* bad : {"", "now", "2026-02-30 00:00:00", "2026-11-22", "2026-11-22 05:36:32+x",
                          "2026-11-22 05:36:32+00 tail"}) {
    EXPECT_EQ(get(bad), -1) << bad;
  }
}

TEST(ControlFileTest, LsnsAreTwoHexWords) {
  uint64_t value = 0;
  EXPECT_TRUE(Parse("key = 1A/76141B8").GetLsn("key", value).ok());
  EXPECT_EQ(value, 0x1A076141B8u);
  for (const char* bad : {"1A", "/1", "1/", "1/123456789", "0x1/2", "1/2/3", "g/1", "-1/1"}) {
    EXPECT_FALSE(Parse(absl::StrCat("key = ", bad)).GetLsn("key", value).ok()) << bad;
  }
}

}  // namespace
}  // namespace pbkfs
