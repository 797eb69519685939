#include "service/logging.h"

#include "gtest/gtest.h"
#include "service/utf8.h"

namespace pbkfs {
namespace {

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

}  // namespace
}  // namespace pbkfs
