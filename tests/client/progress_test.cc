#include "client/progress.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <sstream>
#include <string>

#include "gtest/gtest.h"

namespace pbkfs::client {
namespace {

using std::chrono::milliseconds;

// A stream whose text can be waited for.
class Screen : public std::stringbuf {
 public:
  std::string Wait(const std::string& part) {
    std::unique_lock<std::mutex> lock(mutex_);
    written_.wait_for(lock, std::chrono::seconds(60),
                      [&] { return text_.find(part) != std::string::npos; });
    return text_;
  }

 protected:
  int sync() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    text_ = str();
    written_.notify_all();
    return 0;
  }

 private:
  std::mutex mutex_;
  std::condition_variable written_;
  std::string text_;
};

TEST(Progress, WhatIsQuickIsNotTold) {
  Screen screen;
  std::ostream stream(&screen);
  { const Progress progress(stream, true, "mounting", std::chrono::hours(1)); }
  EXPECT_EQ(screen.str(), "");
}

TEST(Progress, ElsewhereThanOnATerminalEachThingIsOneLine) {
  Screen screen;
  std::ostream stream(&screen);
  {
    Progress progress(stream, false, "unmounting a", milliseconds(0));
    screen.Wait("unmounting a\n");
    progress.Say("waiting: cat (pid 7)");
    screen.Wait("(pid 7)\n");
    progress.Say("waiting: cat (pid 7)");
  }
  EXPECT_EQ(screen.str(), "pbkfs: unmounting a\npbkfs: waiting: cat (pid 7)\n");
}

TEST(Progress, OnATerminalOneLineIsWrittenAgainAndGoesAway) {
  Screen screen;
  std::ostream stream(&screen);
  {
    Progress progress(stream, true, "mounting \n" + std::string(1000, 'x'), milliseconds(0));
    screen.Wait("mounting");
  }
  const std::string text = screen.str();
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  EXPECT_NE(text.find("mounting \\n"), std::string::npos) << text;
  EXPECT_EQ(text.substr(text.size() - 4), "\r\033[K");
  // It is cut to the width of the terminal: a line that wraps can't be written again.
  EXPECT_EQ(text.find(std::string(500, 'x')), std::string::npos) << text;
}

}  // namespace
}  // namespace pbkfs::client
