#include "client/stats_output.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "gtest/gtest.h"

namespace pbkfs::client {
namespace {

v1::DurationHistogram Durations(std::initializer_list<uint64_t> buckets) {
  v1::DurationHistogram durations;
  for (const double bound : {0.001, 0.01, 0.1}) durations.add_bounds(bound);
  for (const uint64_t count : buckets) durations.add_buckets(count);
  return durations;
}

// A sample `seconds` after the mount was made.
v1::StatsResponse Sample(int64_t seconds, uint64_t written, int64_t made = 100) {
  v1::StatsResponse sample;
  sample.mutable_sampled_at()->set_seconds(made + seconds);
  v1::MountStats* mount = sample.add_mounts();
  mount->set_mount_id("m");
  mount->mutable_create_time()->set_seconds(made);
  mount->mutable_io()->set_written_bytes(written);
  mount->mutable_io()->set_handles_open(7);
  (*mount->mutable_fuse()->mutable_requests())["write"] = written / 1024;
  (*mount->mutable_fuse()->mutable_request_durations())["write"] =
      Durations({written / 1024, 0, 0, 0});
  mount->mutable_diff()->set_diff_bytes(static_cast<int64_t>(written));
  return sample;
}

TEST(Quantile, LiesOnAStraightLineWithinItsBucket) {
  EXPECT_FALSE(Quantile(Durations({0, 0, 0, 0}), 0.5).has_value());
  EXPECT_NEAR(*Quantile(Durations({10, 0, 0, 0}), 0.5), 0.0005, 1e-9);
  EXPECT_NEAR(*Quantile(Durations({10, 10, 0, 0}), 0.75), 0.0055, 1e-9);
  EXPECT_NEAR(*Quantile(Durations({0, 0, 100, 0}), 0.99), 0.0991, 1e-9);
  EXPECT_TRUE(std::isinf(*Quantile(Durations({1, 0, 0, 9}), 0.5)));
}

TEST(StatsSince, TakesCountersOffAndLeavesGauges) {
  const v1::StatsResponse since = StatsSince(Sample(20, 10240), Sample(10, 4096));
  const v1::MountStats& mount = since.mounts(0);
  EXPECT_EQ(mount.io().written_bytes(), 6144u);
  EXPECT_EQ(mount.io().handles_open(), 7u);
  EXPECT_EQ(mount.fuse().requests().at("write"), 6u);
  EXPECT_EQ(mount.fuse().request_durations().at("write").buckets(0), 6u);
  EXPECT_EQ(mount.diff().diff_bytes(), 10240);
}

TEST(StatsSince, WhatBeganAgainStaysAsItIs) {
  EXPECT_EQ(StatsSince(Sample(20, 100), Sample(10, 4096)).mounts(0).io().written_bytes(), 100u);
  // Another mount under the same name.
  EXPECT_EQ(StatsSince(Sample(20, 5000, 200), Sample(10, 4096, 100)).mounts(0).io().written_bytes(),
            5000u);
}

TEST(StatsWatch, ShowsRatesBetweenSamples) {
  StatsWatch watch(/*reset=*/false);
  ASSERT_TRUE(watch.Add(Sample(10, 10 << 20)));
  const std::string first = watch.Text();
  EXPECT_NE(first.find("OPS/S"), std::string::npos) << first;
  EXPECT_NE(first.find("1.0 MiB"), std::string::npos) << "the average since the mount: " << first;
  ASSERT_TRUE(watch.Add(Sample(12, (10 << 20) + 4096)));
  const std::string second = watch.Text();
  EXPECT_EQ(std::count(second.begin(), second.end(), '\n'), 1) << "the header is there: " << second;
  EXPECT_NE(second.find("  2.0 KiB"), std::string::npos) << second;
  EXPECT_NE(second.find("500 µs / 990 µs"), std::string::npos) << second;
  EXPECT_EQ(watch.Totals().mounts(0).io().written_bytes(), (10u << 20) + 4096);
}

TEST(StatsWatch, AfterAResetFiguresAreThoseSinceTheFirstSample) {
  StatsWatch watch(/*reset=*/true);
  ASSERT_FALSE(watch.Add(Sample(10, 1 << 20)));
  ASSERT_TRUE(watch.Add(Sample(12, (1 << 20) + 4096)));
  EXPECT_EQ(watch.Totals().mounts(0).io().written_bytes(), 4096u);
  ASSERT_TRUE(watch.Add(Sample(14, (1 << 20) + 16384)));
  EXPECT_EQ(watch.Totals().mounts(0).io().written_bytes(), 16384u);
  EXPECT_NE(watch.Text().find("4.0 KiB"), std::string::npos) << "16 KiB in 4 s";
}

TEST(StatsText, TellsAllOfASingleMountAndALineOfEachOfSeveral) {
  v1::StatsResponse stats = Sample(10, 4096);
  EXPECT_NE(StatsText(stats).find("write p50 / p99"), std::string::npos) << StatsText(stats);
  *stats.add_mounts() = stats.mounts(0);
  const std::string table = StatsText(stats);
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 3) << table;
}

}  // namespace
}  // namespace pbkfs::client
