#include "service/alarm.h"

#include <thread>

#include "gtest/gtest.h"

namespace pbkfs {
namespace {

constexpr std::chrono::hours kLong{1};

TEST(Alarm, RingsOnceForAMomentThatHasCome) {
  Alarm alarm;
  alarm.Set(Alarm::Clock::now());
  EXPECT_TRUE(alarm.Wait());
  std::thread stopper([&alarm] { alarm.Stop(); });
  EXPECT_FALSE(alarm.Wait());
  stopper.join();
  EXPECT_FALSE(alarm.WaitFor(kLong));
}

TEST(Alarm, AMomentCanBeMovedWhileSomebodyWaits) {
  Alarm alarm;
  alarm.SetIn(kLong);
  std::thread mover([&alarm] { alarm.SetNoLaterThan(Alarm::Clock::now()); });
  EXPECT_TRUE(alarm.Wait());
  mover.join();
}

TEST(Alarm, NoLaterMeansNoLater) {
  Alarm alarm;
  alarm.Set(Alarm::Clock::now());
  alarm.SetNoLaterThan(Alarm::Clock::now() + kLong);
  EXPECT_TRUE(alarm.Wait());
}

}  // namespace
}  // namespace pbkfs
