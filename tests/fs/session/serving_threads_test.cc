// Reads always find a thread, however many requests wait for a disk.
#include "fs/session/serving_threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <future>

#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::Bytes;
using testsupport::OverlayFixture;
using testsupport::Page;

// Stands for the kernel: a queue of requests that threads take one by one.
class Requests {
 public:
  ~Requests() { End(); }
  void Send(std::function<void()> request) {
    MutexLock lock(&mutex_);
    requests_.push_back(std::move(request));
    changed_.Signal();
  }
  void End() {
    MutexLock lock(&mutex_);
    ended_ = true;
    changed_.SignalAll();
  }
  void Serve(const ServingThreads::Next& next) {
    while (next([this] { ++idle_; })) {
      std::function<void()> request;
      {
        MutexLock lock(&mutex_);
        while (requests_.empty() && !ended_) changed_.Wait(&mutex_);
        if (requests_.empty()) return;
        request = std::move(requests_.front());
        requests_.pop_front();
      }
      request();
    }
  }
  // How often a thread was told that it is idle.
  int idle() const { return idle_; }
  // Sends a request and waits until it is answered.
  void Ask() {
    std::promise<void> answered;
    Send([&answered] { answered.set_value(); });
    answered.get_future().wait();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::atomic<int> idle_ = 0;
  std::deque<std::function<void()>> requests_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

class ServingThreadsTest : public testing::Test {
 protected:
  static constexpr int kThreads = 8;
  // `count` requests that wait until Release; returns when all of them do.
  void Block(int count) {
    released_ = std::make_shared<std::promise<void>>();
    const auto future = released_->get_future().share();
    const auto waiting = std::make_shared<std::atomic<int>>(0);
    for (int i = 0; i < count; ++i) {
      requests_.Send([this, future, waiting] {
        const BlockingScope blocking;
        const BlockingScope nested;
        ++*waiting;
        future.wait();
        ++finished_;
      });
    }
    while (*waiting < count) std::this_thread::yield();
  }
  void Release(int expected) {
    released_->set_value();
    while (finished_ < expected) std::this_thread::yield();
  }

  Requests requests_;
  std::atomic<int> finished_ = 0;
  std::shared_ptr<std::promise<void>> released_;
};

TEST_F(ServingThreadsTest, ManyMoreWaitersThanThreadsLeaveRoomForAReader) {
  ServingThreads threads(kThreads, [this](int, const auto& next) { requests_.Serve(next); });
  EXPECT_EQ(threads.spares(), 0);
  Block(100);
  for (int i = 0; i < 10; ++i) requests_.Ask();
  const int spares = threads.spares();
  EXPECT_GE(spares, 100 - kThreads / 2);
  EXPECT_LE(spares, 100);
  Release(100);
  // The second time they are there already.
  Block(100);
  requests_.Ask();
  EXPECT_LE(threads.spares(), spares + kThreads);
  Release(200);
  EXPECT_TRUE(threads.alive());
  requests_.End();
  threads.Join();
  EXPECT_FALSE(threads.alive());
}

TEST_F(ServingThreadsTest, AFewWaitersNeedNoSpare) {
  ServingThreads threads(kThreads, [this](int, const auto& next) { requests_.Serve(next); });
  Block(kThreads / 2);
  requests_.Ask();
  EXPECT_EQ(threads.spares(), 0);
  Release(kThreads / 2);
  requests_.End();
}

TEST_F(ServingThreadsTest, SparesThatAreNotNeededGiveTheirMemoryBackAndServeAgain) {
  ServingThreads threads(kThreads, [this](int, const auto& next) { requests_.Serve(next); });
  Block(3 * kThreads);
  Release(3 * kThreads);
  while (requests_.idle() < threads.spares()) requests_.Ask();
  const int spares = threads.spares();
  EXPECT_GT(spares, 0);
  Block(3 * kThreads);
  requests_.Ask();
  EXPECT_LE(threads.spares(), spares + kThreads);
  Release(6 * kThreads);
  requests_.End();
}

TEST_F(ServingThreadsTest, AReadAnswersWhileEveryThreadIsInFsync) {
  OverlayFixture fs({{"rel", {S_IFREG | 0600, Page(1, 8 * kBlockSize)}}});
  constexpr int kFiles = 3 * kThreads;
  std::vector<uint64_t> inos;
  for (int i = 0; i < kFiles; ++i) {
    const std::string path = "f" + std::to_string(i);
    ASSERT_TRUE(fs.Create(path).ok());
    ASSERT_TRUE(fs.Write(path, 0, Page(i)).ok());
    inos.push_back(fs.Ino(path));
  }
  std::promise<void> go_on;
  std::atomic<int> held = 0;
  fs.io().set_hook([&, future = go_on.get_future().share()](const std::string& operation,
                                                            const std::string& file) {
    if (operation == "sync" && file.rfind("log", 0) != 0) {
      ++held;
      future.wait();
    }
    return absl::OkStatus();
  });
  ServingThreads threads(kThreads, [this](int, const auto& next) { requests_.Serve(next); });
  for (const uint64_t ino : inos) {
    requests_.Send([&fs, this, ino] {
      EXPECT_TRUE(fs.overlay().Fsync(ino).ok());
      ++finished_;
    });
  }
  while (held < kFiles) std::this_thread::yield();
  std::promise<std::string> read;
  requests_.Send([&] { read.set_value(*fs.Read("rel")); });
  EXPECT_EQ(read.get_future().get(), Page(1, 8 * kBlockSize));
  go_on.set_value();
  while (finished_ < kFiles) std::this_thread::yield();
  requests_.End();
  threads.Join();
  fs.io().set_hook(nullptr);
}

}  // namespace
}  // namespace pbkfs
