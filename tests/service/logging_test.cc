#include "service/logging.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/limits.h"
#include "service/recent_log.h"
#include "service/utf8.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST(JsonQuote, EscapesWhatJsonCannotHold) {
  EXPECT_EQ(JsonQuote("a\"b\\c\n\x7f"), R"("a\"b\\c\u000a\u007f")");
  EXPECT_EQ(JsonQuote("grün"), "\"grün\"");
  EXPECT_EQ(JsonQuote("\xff"), "\"?\"");
}

TEST(Utf8, OnlyValidCharactersPass) {
  EXPECT_EQ(ToUtf8("aé€😀"), "aé€😀");
  // A byte alone, a cut character, an overlong form, a surrogate, beyond U+10FFFF.
  EXPECT_EQ(ToUtf8("\x80"), "?");
  EXPECT_EQ(ToUtf8("\xe2\x82"), "??");
  EXPECT_EQ(ToUtf8("\xc0\xaf"), "??");
  EXPECT_EQ(ToUtf8("\xed\xa0\x80"), "???");
  EXPECT_EQ(ToUtf8("\xf4\x90\x80\x80"), "????");
}

TEST(Logging, UnknownLevelsAreRefused) {
  EXPECT_FALSE(SetUpLogging("loud", LogFormat::kText).ok());
  EXPECT_TRUE(SetUpLogging("error", LogFormat::kText).ok());
}

TEST(Logging, TheLevelCanBeChangedWhileTheProcessRuns) {
  ASSERT_TRUE(SetUpLogging("warn", LogFormat::kText).ok());
  EXPECT_EQ(LogLevel(), "warn");
  ASSERT_TRUE(SetLogLevel("debug").ok());
  EXPECT_EQ(LogLevel(), "debug");
  EXPECT_TRUE(spdlog::default_logger()->should_log(spdlog::level::debug));
  const absl::Status unknown = SetLogLevel("loud");
  EXPECT_EQ(ReasonOf(unknown), reason::kInvalidField);
  EXPECT_EQ(FieldOf(unknown), "level");
  EXPECT_EQ(LogLevel(), "debug");
}

TEST(Logging, WarningsAreKeptWithoutWhatIsPrivate) {
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    ASSERT_TRUE(SetUpLogging("info", format).ok());
    spdlog::info("not kept");
    spdlog::warn("kept first");
    LogEvent(spdlog::level::info, "quiet").Field("x", "not kept");
    LogEvent(spdlog::level::err, "loud")
        .Field("mount", "m")
        .PrivateField("parameters", "topsecret")
        .Field("result", "bad luck");
    const std::vector<std::string> lines = ProcessRecentLog().Lines(2);
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_THAT(lines[0], EndsWith("warning kept first"));
    EXPECT_THAT(lines[1], EndsWith("error loud mount=m result=\"bad luck\""));
  }
}

TEST(RecentLog, IsBoundedInLinesAndInTheirLength) {
  RecentLog log;
  for (size_t i = 0; i < kMaxRecentLogLines + 10; ++i) {
    log.Add(absl::UnixEpoch(), "error", absl::StrCat(i, " ", std::string(5000, 'x'), "\n"));
  }
  const std::vector<std::string> lines = log.Lines(kMaxRecentLogLines * 2);
  ASSERT_EQ(lines.size(), kMaxRecentLogLines);
  EXPECT_THAT(lines.front(), StartsWith("1970-01-01T00:00:00.000Z error 10 xxx"));
  EXPECT_LT(lines.front().size(), kMaxRecentLogLineBytes + 100);
  EXPECT_THAT(lines.front(), Not(HasSubstr("\n")));
  EXPECT_TRUE(log.Lines(0).empty());
}

}  // namespace
}  // namespace pbkfs
