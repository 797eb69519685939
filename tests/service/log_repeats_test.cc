#include "service/log_repeats.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace pbkfs {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1000000);

TEST(RepeatLimiter, OneTextIsWrittenAFewTimesAMinuteAndTheRestCounted) {
  RepeatLimiter limiter;
  int written = 0;
  for (int i = 0; i < 100; ++i) {
    written += limiter.Admit("disk error", kStart + absl::Milliseconds(i)) ? 1 : 0;
  }
  EXPECT_EQ(written, kSameLinesPerMinute);
  EXPECT_TRUE(limiter.Admit("something else", kStart)) << "others are not in its way";
  EXPECT_TRUE(limiter.TakeLeftOut(kStart + absl::Seconds(59)).empty()) << "the minute goes on";
  EXPECT_EQ(limiter.next_report(), kStart + absl::Minutes(1));
  const auto left_out = limiter.TakeLeftOut(kStart + absl::Minutes(1));
  ASSERT_EQ(left_out.size(), 1u);
  EXPECT_EQ(left_out[0].text, "disk error");
  EXPECT_EQ(left_out[0].lines, 100u - kSameLinesPerMinute);
  EXPECT_EQ(limiter.next_report(), absl::InfiniteFuture());
  EXPECT_TRUE(limiter.Admit("disk error", kStart + absl::Minutes(1))) << "a new minute";
}

TEST(RepeatLimiter, TextsThatDifferInNumbersShareALimit) {
  RepeatLimiter limiter;
  int written = 0;
  for (int i = 0; i < 1000; ++i) {
    written += limiter.Admit(absl::StrCat("file 'base/5/1', block ", i, ": bad"), kStart) ? 1 : 0;
  }
  EXPECT_EQ(written, kAlikeLinesPerMinute);
  const auto left_out = limiter.TakeLeftOut(kStart + absl::Minutes(2));
  ASSERT_EQ(left_out.size(), 1u);
  EXPECT_EQ(left_out[0].lines, 1000u - kAlikeLinesPerMinute);
}

TEST(RepeatLimiter, EveryLineIsWrittenOrCountedHoweverManyTextsThereAre) {
  RepeatLimiter limiter;
  constexpr uint64_t kLines = 5000;
  uint64_t written = 0;
  for (uint64_t i = 0; i < kLines; ++i) {
    // Letters, since numbers would be alike.
    std::string text;
    for (uint64_t n = i + 1; n > 0; n /= 26) text += static_cast<char>('a' + n % 26);
    written += limiter.Admit(text, kStart) ? 1 : 0;
  }
  EXPECT_LT(written, kLines);
  uint64_t left_out = 0;
  for (const auto& lines : limiter.TakeLeftOut(kStart + absl::Minutes(1))) left_out += lines.lines;
  EXPECT_EQ(written + left_out, kLines);
}

}  // namespace
}  // namespace pbkfs
