#include "fs/session/request_stats.h"

#include <cerrno>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace pbkfs {
namespace {

constexpr int kThreads = 11;  // More than there are shards.
constexpr int64_t kMicrosecond = 1000;

class RequestStatsTest : public testing::Test {
 protected:
  RequestStatsTest()
      : counters_(std::make_unique<RequestStats::Counters>()), stats_(kThreads, counters_.get()) {}

  void Serve(int thread, FuseOp op, int64_t nanos, int error = 0) {
    stats_.Begin(thread, op, /*ino=*/7, /*now_nanos=*/1);
    stats_.End(thread, op, error, 1 + nanos);
  }

  const std::unique_ptr<RequestStats::Counters> counters_;
  RequestStats stats_;
};

TEST_F(RequestStatsTest, NothingIsLostHoweverManyThreadsCount) {
  constexpr uint64_t kRequests = 10000;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([this, thread] {
      for (uint64_t i = 0; i < kRequests; ++i) {
        Serve(thread, FuseOp::kRead, 30 * kMicrosecond, i % 10 == 0 ? EIO : 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const FuseFigures figures = stats_.Figures(/*now_nanos=*/2);
  EXPECT_EQ(figures.requests.at("read"), kThreads * kRequests);
  EXPECT_EQ(figures.errors.at({"read", EIO}), kThreads * kRequests / 10);
  const FuseFigures::Latency& latency = figures.latency.at("read");
  ASSERT_EQ(latency.buckets.size(), FuseLatencyBounds().size() + 1);
  EXPECT_EQ(latency.buckets[2], kThreads * kRequests) << "25 to 50 microseconds";
  EXPECT_NEAR(latency.sum_seconds, kThreads * kRequests * 30e-6, 1e-6);
  EXPECT_EQ(figures.inflight, 0u);
}

TEST_F(RequestStatsTest, BucketsGoFromTenMicrosecondsToTenSecondsAndBeyond) {
  EXPECT_EQ(FuseLatencyBounds().front(), 1e-5);
  EXPECT_EQ(FuseLatencyBounds().back(), 10);
  Serve(0, FuseOp::kFsync, 10 * kMicrosecond);
  Serve(1, FuseOp::kFsync, 11 * kMicrosecond);
  Serve(2, FuseOp::kFsync, int64_t{11} * 1000000000);
  const FuseFigures figures = stats_.Figures(2);
  const std::vector<uint64_t>& buckets = figures.latency.at("fsync").buckets;
  EXPECT_EQ(buckets.front(), 1u) << "a bound belongs to its bucket";
  EXPECT_EQ(buckets[1], 1u);
  EXPECT_EQ(buckets.back(), 1u);
  EXPECT_EQ(figures.requests.count("read"), 0u) << "what never came has no figures";
}

TEST_F(RequestStatsTest, TheOldestRequestIsNamed) {
  stats_.Begin(3, FuseOp::kWrite, 42, 1000);
  stats_.Begin(9, FuseOp::kRead, 43, 5000);
  const FuseFigures figures = stats_.Figures(11000);
  EXPECT_EQ(figures.inflight, 2u);
  EXPECT_EQ(figures.oldest_op, "write");
  EXPECT_EQ(figures.oldest_ino, 42u);
  EXPECT_EQ(figures.oldest_age, absl::Nanoseconds(10000));
}

}  // namespace
}  // namespace pbkfs
