#include "service/logging.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/limits.h"
#include "service/log_repeats.h"
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

// What one line of a program that logs `name` looks like.
std::string Logged(LogFormat format, const std::string& name) {
  EXPECT_TRUE(SetUpLogging("info", format).ok());
  testing::internal::CaptureStderr();
  spdlog::warn("the file {} is damaged", name);
  LogEvent(spdlog::level::info, "mounted").Field("target", name);
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(SetUpLogging("error", LogFormat::kText).ok());
  return text;
}

TEST(Logging, ANameCannotBeginALineOfItsOwn) {
  // Line feed, carriage return, escape, next line (U+0085), and the start of what looks like a
  // line.
  const std::string hostile = "a\n2026-01-01 info stopped\r\x1b[2J\xc2\x85\x7f\"}";
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    const std::string text = Logged(format, hostile);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;
    for (const char* raw : {"\r", "\x1b", "\xc2\x85", "\x7f"}) {
      EXPECT_EQ(text.find(raw), std::string::npos) << text;
    }
    EXPECT_NE(text.find("a\\u000a2026-01-01 info stopped\\u000d\\u001b[2J\\u0085\\u007f"),
              std::string::npos)
        << text;
  }
}

TEST(Logging, RepeatedWarningsAreLeftOutAndEventsAreNot) {
  EXPECT_TRUE(SetUpLogging("info", LogFormat::kText).ok());
  testing::internal::CaptureStderr();
  for (int i = 0; i < 100; ++i) {
    spdlog::warn("the disk is slow");
    LogEvent(spdlog::level::warn, "audit").Field("method", "Mount");
  }
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(SetUpLogging("error", LogFormat::kText).ok());
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 100 + kSameLinesPerMinute) << text;
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
