#include "service/carried_figures.h"

#include <sys/mman.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace pbkfs {
namespace {

UniqueFd NewMemory() { return UniqueFd(memfd_create("figures", MFD_CLOEXEC)); }

// What a worker counts.
v1::DaemonStats Counted(double seconds) {
  v1::DaemonStats stats;
  stats.set_page_cache_bytes(100);
  stats.set_page_cache_evictions(2);
  (*stats.mutable_decoded_pages())["zlib"] = 3;
  (*stats.mutable_rpc_requests())["Service.Method/OK"] = 4;
  v1::DurationHistogram& durations = (*stats.mutable_rpc_durations())["Service.Method"];
  durations.add_bounds(0.5);
  durations.add_buckets(1);
  durations.add_buckets(0);
  durations.set_sum_seconds(seconds);
  return stats;
}

v1::DaemonStats Shown(const UniqueFd& memory, v1::DaemonStats counted) {
  CarriedFigures(memory).AddEarlier(&counted);
  return counted;
}

TEST(CarriedFigures, CountersOfThreeWorkersAddUpAndGaugesDoNot) {
  const UniqueFd memory = NewMemory();
  Shown(memory, Counted(0.25));
  Shown(memory, Counted(0.25));
  const v1::DaemonStats stats = Shown(memory, Counted(0.5));
  EXPECT_EQ(100, stats.page_cache_bytes());
  EXPECT_EQ(6u, stats.page_cache_evictions());
  EXPECT_EQ(9u, stats.decoded_pages().at("zlib"));
  EXPECT_EQ(12u, stats.rpc_requests().at("Service.Method/OK"));
  const v1::DurationHistogram& durations = stats.rpc_durations().at("Service.Method");
  EXPECT_EQ(3u, durations.buckets(0));
  EXPECT_EQ(1.0, durations.sum_seconds());
}

TEST(CarriedFigures, OneWorkerAddsItsPredecessorsOnce) {
  const UniqueFd memory = NewMemory();
  Shown(memory, Counted(1));
  CarriedFigures figures(memory);
  for (int sample = 0; sample < 3; ++sample) {
    v1::DaemonStats stats = Counted(1);
    figures.AddEarlier(&stats);
    EXPECT_EQ(4u, stats.page_cache_evictions());
  }
}

TEST(CarriedFigures, WhatAWorkerDidNotCountIsStillThere) {
  const UniqueFd memory = NewMemory();
  Shown(memory, Counted(1));
  EXPECT_EQ(4u, Shown(memory, {}).rpc_requests().at("Service.Method/OK"));
}

TEST(CarriedFigures, OtherBucketsBeginAnew) {
  const UniqueFd memory = NewMemory();
  Shown(memory, Counted(1));
  v1::DaemonStats counted = Counted(1);
  (*counted.mutable_rpc_durations())["Service.Method"].set_bounds(0, 0.75);
  const v1::DaemonStats stats = Shown(memory, counted);
  EXPECT_EQ(1u, stats.rpc_durations().at("Service.Method").buckets(0));
  EXPECT_EQ(8u, stats.rpc_requests().at("Service.Method/OK"));
}

TEST(CarriedFigures, AnotherVersionOrLengthBeginsAnew) {
  const UniqueFd memory = NewMemory();
  Shown(memory, Counted(1));
  const char other = 77;
  ASSERT_EQ(1, pwrite(memory.get(), &other, 1, 8));  // The version.
  EXPECT_EQ(2u, Shown(memory, Counted(1)).page_cache_evictions());
  EXPECT_EQ(4u, Shown(memory, Counted(1)).page_cache_evictions());
  ASSERT_EQ(0, ftruncate(memory.get(), 4096));
  EXPECT_EQ(2u, Shown(memory, Counted(1)).page_cache_evictions());
}

TEST(CarriedFigures, WithoutAMemoryNothingIsCarried) {
  Shown(UniqueFd(), Counted(1));
  EXPECT_EQ(2u, Shown(UniqueFd(), Counted(1)).page_cache_evictions());
}

}  // namespace
}  // namespace pbkfs
