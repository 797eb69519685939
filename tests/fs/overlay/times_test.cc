// Time stamps: a write and a change of size set mtime and ctime, utimens sets mtime, and all of
// them are there after a clean unmount and after the death of the process. Fills: fills_test.cc.
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <functional>

#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::OverlayFixture;
using testsupport::Page;

constexpr int64_t kB = kBlockSize;
// Of a process that died the data file's own stamp is left, taken a moment after ours.
constexpr int64_t kSlack = int64_t{60} * 1000000000;

class TimesTest : public testing::Test {
 protected:
  Attributes Get() { return *fs_.overlay().GetAttributes(fs_.Ino("rel")); }
  void SetMtime(int64_t mtime) {
    AttributeChange change;
    change.mtime = mtime;
    ASSERT_TRUE(fs_.overlay().SetAttributes(fs_.Ino("rel"), change).ok());
  }
  // `change` sets both stamps, and they stay.
  void ExpectChanged(const std::function<absl::Status()>& change) {
    const Attributes before = Get();
    const int64_t began = NowNanos();
    ASSERT_TRUE(change().ok());
    const Attributes after = Get();
    EXPECT_GE(after.mtime, began);
    EXPECT_GE(after.ctime, began);
    EXPECT_EQ(after.atime, before.atime);
    fs_.Die();
    fs_.Mount();
    EXPECT_GE(Get().mtime, after.mtime - kSlack);
    EXPECT_LE(Get().mtime, after.mtime + kSlack);
    const Attributes died = Get();
    fs_.Remount();
    EXPECT_EQ(Get().mtime, died.mtime);
    EXPECT_EQ(Get().ctime, died.ctime);
  }

  OverlayFixture fs_{{{"rel", {S_IFREG | 0600, Page(1, 8 * kB)}}}};
};

TEST_F(TimesTest, AWriteSetsThem) {
  ExpectChanged([&] { return fs_.Write("rel", 5, "x"); });
}

TEST_F(TimesTest, AChangeOfSizeSetsThem) {
  ExpectChanged([&] { return fs_.Truncate("rel", 20 * kB); });
  ExpectChanged([&] { return fs_.Truncate("rel", kB); });
}

TEST_F(TimesTest, APunchSetsThem) {
  ExpectChanged([&] {
    return fs_.overlay().Allocate(fs_.Ino("rel"), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                                  2 * kB);
  });
}

TEST_F(TimesTest, UtimensIntoThePastStays) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(2)).ok());
  const int64_t began = NowNanos();
  SetMtime(1234567);
  EXPECT_EQ(Get().mtime, 1234567);
  EXPECT_GE(Get().ctime, began);
  fs_.Die();
  fs_.Mount();
  EXPECT_EQ(Get().mtime, 1234567);
  fs_.Remount();
  EXPECT_EQ(Get().mtime, 1234567);
}

TEST_F(TimesTest, AWriteHasTheSameTimeAfterACleanUnmount) {
  ASSERT_TRUE(fs_.Write("rel", 0, Page(2)).ok());
  const Attributes written = Get();
  fs_.Remount();
  EXPECT_EQ(Get().mtime, written.mtime);
  EXPECT_EQ(Get().ctime, written.ctime);
}

TEST_F(TimesTest, AReadChangesNothing) {
  const Attributes before = Get();
  ASSERT_TRUE(fs_.Read("rel").ok());
  EXPECT_EQ(Get().mtime, before.mtime);
  EXPECT_EQ(Get().ctime, before.ctime);
}

}  // namespace
}  // namespace pbkfs
