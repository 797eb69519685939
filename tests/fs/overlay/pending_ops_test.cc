#include "fs/overlay/pending_ops.h"

#include <gtest/gtest.h>

#include <future>
#include <optional>
#include <thread>

namespace pbkfs {
namespace {

// Waits on a ticket in a thread of its own.
std::future<void> WaitFor(Ticket& ticket) {
  return std::async(std::launch::async, [&ticket] { ticket.Wait(); });
}

bool Done(const std::future<void>& future) {
  return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

class PendingOpsTest : public testing::Test {
 protected:
  PendingOps ops_;
  PendingQueue queue_;
  std::atomic<int64_t> size_{100000};
};

TEST_F(PendingOpsTest, AReadWaitsForTheWriteBeforeItAndNotForTheOneAfterIt) {
  std::optional<Ticket> write1 = ops_.DrawWrite(queue_, {0, 8192}, 8192, size_);
  write1->Wait();
  Ticket read = ops_.Draw(queue_, PendingRole::kReader, {0, 8192});
  Ticket write2 = ops_.DrawWrite(queue_, {0, 8192}, 8192, size_);
  auto waiting = WaitFor(read);
  EXPECT_FALSE(Done(waiting));
  write1.reset();
  waiting.get();  // write2 is still drawn.
  write2.Wait();
}

TEST_F(PendingOpsTest, DisjointRangesDoNotWait) {
  Ticket write = ops_.DrawWrite(queue_, {0, 8192}, 8192, size_);
  write.Wait();
  ops_.DrawWrite(queue_, {8192, 16384}, 16384, size_).Wait();
  ops_.Draw(queue_, PendingRole::kReader, {8192, 16384}).Wait();
}

TEST_F(PendingOpsTest, AnExtensionConflictsWithEverythingPastTheOldEnd) {
  std::optional<Ticket> extension = ops_.DrawWrite(queue_, {204800, 212992}, 212992, size_);
  extension->Wait();
  ops_.Draw(queue_, PendingRole::kReader, {0, 8192}).Wait();
  Ticket past_end = ops_.Draw(queue_, PendingRole::kReader, {98304, 106496});
  auto waiting = WaitFor(past_end);
  EXPECT_FALSE(Done(waiting));
  extension.reset();
  waiting.get();
}

TEST_F(PendingOpsTest, GetattrWaitsOnlyForChangesOfSize) {
  std::optional<Ticket> write = ops_.DrawWrite(queue_, {0, 8192}, 8192, size_);
  write->Wait();
  ops_.Draw(queue_, PendingRole::kSizeReader, {}).Wait();
  write.reset();
  std::optional<Ticket> resize = ops_.DrawResize(queue_, 50, size_);
  resize->Wait();
  Ticket getattr = ops_.Draw(queue_, PendingRole::kSizeReader, {});
  auto waiting = WaitFor(getattr);
  EXPECT_FALSE(Done(waiting));
  resize.reset();
  waiting.get();
}

TEST_F(PendingOpsTest, ABarrierWaitsForEarlierMutationsAndDelaysNone) {
  std::optional<Ticket> write = ops_.DrawWrite(queue_, {0, 8192}, 8192, size_);
  write->Wait();
  Ticket barrier = ops_.Draw(queue_, PendingRole::kBarrier, {});
  ops_.DrawWrite(queue_, {8192, 16384}, 16384, size_).Wait();
  auto waiting = WaitFor(barrier);
  EXPECT_FALSE(Done(waiting));
  write.reset();
  waiting.get();
}

TEST_F(PendingOpsTest, MutationsOfOneRangeRunInTheOrderOfArrival) {
  std::vector<int> order;
  std::vector<std::thread> threads;
  std::vector<Ticket> tickets;
  constexpr int kWriters = 8;
  tickets.reserve(kWriters);
  for (int i = 0; i < kWriters; ++i) {
    tickets.push_back(ops_.DrawWrite(queue_, {0, 8192}, 8192, size_));
  }
  // The threads start in the opposite order.
  for (int i = kWriters; i-- > 0;) {
    threads.emplace_back(
        [&order, ticket = std::move(tickets[static_cast<size_t>(i)]), i]() mutable {
          Ticket mine = std::move(ticket);
          mine.Wait();
          order.push_back(i);
        });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST_F(PendingOpsTest, ABarrierWaitsForChangesOfNamesAndNobodyElseDoes) {
  std::vector<Ticket> names = ops_.DrawForNames({&queue_});
  ops_.Draw(queue_, PendingRole::kReader, {0, 8192}).Wait();
  ops_.DrawWrite(queue_, {0, 8192}, 8192, size_).Wait();
  ops_.Draw(queue_, PendingRole::kSizeReader, {}).Wait();
  Ticket barrier = ops_.Draw(queue_, PendingRole::kBarrier, {});
  auto waiting = WaitFor(barrier);
  EXPECT_FALSE(Done(waiting));
  names.clear();
  waiting.get();
}

TEST_F(PendingOpsTest, EachReaderWaitsForTheWritesBeforeItOnly) {
  std::vector<std::optional<Ticket>> writes;
  std::vector<Ticket> readers;
  constexpr size_t kPairs = 4;
  for (size_t i = 0; i < kPairs; ++i) {
    writes.emplace_back(ops_.DrawWrite(queue_, {0, 8192}, 8192, size_));
    readers.push_back(ops_.Draw(queue_, PendingRole::kReader, {0, 8192}));
  }
  std::vector<std::future<void>> waiting;
  for (Ticket& reader : readers) waiting.push_back(WaitFor(reader));
  for (size_t i = 0; i < kPairs; ++i) {
    writes[i]->Wait();
    for (size_t later = i; later < kPairs; ++later) EXPECT_FALSE(Done(waiting[later]));
    writes[i].reset();
    waiting[i].get();
  }
}

TEST_F(PendingOpsTest, BarriersWaitForWhatWasDrawnBeforeEachOfThem) {
  std::optional<Ticket> write1 = ops_.DrawWrite(queue_, {0, 8192}, 8192, size_);
  Ticket barrier1 = ops_.Draw(queue_, PendingRole::kBarrier, {});
  std::optional<Ticket> write2 = ops_.DrawWrite(queue_, {8192, 16384}, 16384, size_);
  Ticket barrier2 = ops_.Draw(queue_, PendingRole::kBarrier, {});
  auto waiting1 = WaitFor(barrier1);
  auto waiting2 = WaitFor(barrier2);
  write2->Wait();
  write2.reset();
  EXPECT_FALSE(Done(waiting1));
  EXPECT_FALSE(Done(waiting2));
  write1.reset();
  waiting1.get();
  waiting2.get();
}

TEST_F(PendingOpsTest, InodesAreIndependent) {
  PendingQueue other;
  std::optional<Ticket> write = ops_.DrawWrite(queue_, {0, 8192}, 8192, size_);
  write->Wait();
  ops_.DrawWrite(other, {0, 8192}, 8192, size_).Wait();
  ops_.Draw(other, PendingRole::kBarrier, {}).Wait();
  EXPECT_EQ(ops_.Figures().inodes, 1u);
}

TEST_F(PendingOpsTest, AFillGivesWayToAMutationAndDelaysNobodyElse) {
  std::optional<Ticket> write = ops_.DrawWrite(queue_, {0, 8192}, 8192, size_);
  EXPECT_FALSE(ops_.TryDrawFill(queue_, {0, 16384}).has_value()) << "a write was first";
  std::optional<Ticket> fill = ops_.TryDrawFill(queue_, {8192, 16384});
  ASSERT_TRUE(fill.has_value());
  ops_.Draw(queue_, PendingRole::kReader, {8192, 16384}).Wait();
  ops_.Draw(queue_, PendingRole::kSizeReader, {}).Wait();
  write.reset();
  ops_.Draw(queue_, PendingRole::kBarrier, {}).Wait();
  ops_.DrawWrite(queue_, {16384, 24576}, 24576, size_).Wait();
  Ticket later = ops_.DrawWrite(queue_, {8192, 16384}, 16384, size_);
  auto waiting = WaitFor(later);
  EXPECT_FALSE(Done(waiting));
  fill.reset();
  waiting.get();
}

TEST_F(PendingOpsTest, WaitsAreCountedByLength) {
  std::optional<Ticket> write = ops_.DrawWrite(queue_, {0, 8192}, 8192, size_);
  write->Wait();
  Ticket read = ops_.Draw(queue_, PendingRole::kReader, {0, 8192});
  auto waiting = WaitFor(read);
  write.reset();
  waiting.get();
  const PendingFigures figures = ops_.Figures();
  uint64_t counted = 0;
  for (const uint64_t bucket : figures.wait_buckets) counted += bucket;
  EXPECT_EQ(counted, figures.waits);
  EXPECT_LE(figures.waits, 1u);
}

TEST_F(PendingOpsTest, NothingInFlightLeavesNoFigures) {
  { Ticket ticket = ops_.Draw(queue_, PendingRole::kReader, {0, 8192}); }
  const PendingFigures figures = ops_.Figures();
  EXPECT_EQ(figures.operations, 0u);
  EXPECT_EQ(figures.inodes, 0u);
  EXPECT_EQ(figures.waits, 0u);
}

}  // namespace
}  // namespace pbkfs
