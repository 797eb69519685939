#include "fs/session/request_stats.h"

#include <time.h>

#include <algorithm>

namespace pbkfs {

const std::array<double, RequestStats::kBounds> RequestStats::kBucketBounds = {
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
    0.025,   0.05,     0.1,     0.25,   0.5,     1,      2.5,   5,      10};

absl::Span<const double> FuseLatencyBounds() { return RequestStats::kBucketBounds; }

absl::string_view FuseOpName(FuseOp op) {
  static constexpr const char* kNames[] = {
      "lookup",   "forget",  "getattr", "setattr",   "readlink", "mknod",       "mkdir",
      "unlink",   "rmdir",   "symlink", "rename",    "link",     "open",        "read",
      "write",    "release", "fsync",   "opendir",   "readdir",  "readdirplus", "releasedir",
      "fsyncdir", "statfs",  "create",  "fallocate", "lseek"};
  static_assert(std::size(kNames) == static_cast<size_t>(FuseOp::kCount));
  return kNames[static_cast<size_t>(op)];
}

int64_t MonotonicNanos() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1000000000} + now.tv_nsec;
}

void RequestStats::End(int thread, FuseOp op, int error, int64_t now_nanos) {
  std::atomic<int64_t>& started = started_[static_cast<size_t>(thread)].began;
  const int64_t nanos = now_nanos - started.load(std::memory_order_relaxed);
  started.store(0, std::memory_order_relaxed);
  PerOp& figures =
      counters_.shards[static_cast<size_t>(thread) % kShards].ops[static_cast<size_t>(op)];
  figures.requests.fetch_add(1, std::memory_order_relaxed);
  figures.nanos.fetch_add(nanos, std::memory_order_relaxed);
  const double seconds = static_cast<double>(nanos) * 1e-9;
  const auto bound = std::lower_bound(kBucketBounds.begin(), kBucketBounds.end(), seconds);
  figures.buckets[static_cast<size_t>(bound - kBucketBounds.begin())].fetch_add(
      1, std::memory_order_relaxed);
  if (error == 0) return;
  const auto number = static_cast<size_t>(error);
  counters_.errors[static_cast<size_t>(op)][number < Counters::kErrors ? number : 0].fetch_add(
      1, std::memory_order_relaxed);
}

FuseFigures RequestStats::Figures(int64_t now_nanos) const {
  FuseFigures figures;
  for (size_t i = 0; i < kOps; ++i) {
    const std::string name(FuseOpName(static_cast<FuseOp>(i)));
    for (const Counters::Shard& shard : counters_.shards) {
      const PerOp& counted = shard.ops[i];
      const uint64_t requests = counted.requests.load(std::memory_order_relaxed);
      if (requests == 0) continue;
      figures.requests[name] += requests;
      FuseFigures::Latency& latency = figures.latency[name];
      latency.sum_seconds +=
          static_cast<double>(counted.nanos.load(std::memory_order_relaxed)) * 1e-9;
      latency.buckets.resize(counted.buckets.size());
      for (size_t bucket = 0; bucket < counted.buckets.size(); ++bucket) {
        latency.buckets[bucket] += counted.buckets[bucket].load(std::memory_order_relaxed);
      }
    }
    for (size_t error = 0; error < Counters::kErrors; ++error) {
      const uint64_t count = counters_.errors[i][error].load(std::memory_order_relaxed);
      if (count > 0) figures.errors[{name, static_cast<int>(error)}] = count;
    }
  }
  int64_t oldest = now_nanos;
  for (const Current& current : started_) {
    const int64_t began = current.began.load(std::memory_order_relaxed);
    if (began == 0) continue;
    ++figures.inflight;
    if (began >= oldest) continue;
    oldest = began;
    figures.oldest_op = std::string(FuseOpName(current.op.load(std::memory_order_relaxed)));
    figures.oldest_ino = current.ino.load(std::memory_order_relaxed);
  }
  figures.oldest_age = absl::Nanoseconds(now_nanos - oldest);
  return figures;
}

}  // namespace pbkfs
