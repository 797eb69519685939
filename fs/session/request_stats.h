// Counts the requests of one FUSE session by operation: number, errors, latency, what is in flight.
// The hot path pays a few relaxed atomic adds. Thread-safe.
#ifndef PBKFS_FS_SESSION_REQUEST_STATS_H_
#define PBKFS_FS_SESSION_REQUEST_STATS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace pbkfs {

enum class FuseOp : uint8_t {
  kLookup,
  kForget,
  kGetattr,
  kSetattr,
  kReadlink,
  kMknod,
  kMkdir,
  kUnlink,
  kRmdir,
  kSymlink,
  kRename,
  kLink,
  kOpen,
  kRead,
  kWrite,
  kRelease,
  kFsync,
  kOpendir,
  kReaddir,
  kReaddirplus,
  kReleasedir,
  kFsyncdir,
  kStatfs,
  kCreate,
  kFallocate,
  kLseek,
  kCount,
};
absl::string_view FuseOpName(FuseOp op);

// Upper bounds in seconds of the latency buckets; one more bucket holds what is slower.
absl::Span<const double> FuseLatencyBounds();

struct FuseFigures {
  struct Latency {
    std::vector<uint64_t> buckets;  // Not cumulative; one more than FuseLatencyBounds().
    double sum_seconds = 0;
  };
  std::map<std::string, uint64_t> requests;                // By operation.
  std::map<std::pair<std::string, int>, uint64_t> errors;  // By operation and errno.
  std::map<std::string, Latency> latency;  // By operation; only those that occurred.
  uint64_t inflight = 0;
  absl::Duration oldest_age;  // Of the requests in flight; 0 where there is none.
  std::string oldest_op;
  uint64_t oldest_ino = 0;
  uint64_t resent = 0;  // Requests that the kernel sent again after a process had died.
};

// The clock of RequestStats: nanoseconds since some moment before the process began.
int64_t MonotonicNanos();

class RequestStats {
 public:
  // What is counted; all zeros is a valid state, so that it can lie in memory that outlives the
  // process.
  struct Counters;

  // Counts in `counters`, which outlives this object.
  RequestStats(int threads, Counters* counters)
      : counters_(*counters), started_(static_cast<size_t>(threads)) {}

  // `thread` is the number of the session's thread that serves the request.
  void Begin(int thread, FuseOp op, uint64_t ino, int64_t now_nanos) {
    Current& current = started_[static_cast<size_t>(thread)];
    current.op.store(op, std::memory_order_relaxed);
    current.ino.store(ino, std::memory_order_relaxed);
    current.began.store(now_nanos, std::memory_order_relaxed);
  }
  void End(int thread, FuseOp op, int error, int64_t now_nanos);

  FuseFigures Figures(int64_t now_nanos) const;

 private:
  static constexpr size_t kOps = static_cast<size_t>(FuseOp::kCount);
  static constexpr size_t kBounds = 19;
  // As many as the threads of a mount by default, so that each counts on cache lines of its own.
  static constexpr size_t kShards = 8;
  struct PerOp {
    std::atomic<uint64_t> requests{0};
    std::atomic<int64_t> nanos{0};
    std::array<std::atomic<uint64_t>, kBounds + 1> buckets{};
  };
  struct Current {
    std::atomic<int64_t> began{0};  // 0 = idle.
    std::atomic<FuseOp> op{};
    std::atomic<uint64_t> ino{0};
  };
  friend absl::Span<const double> FuseLatencyBounds();
  static const std::array<double, kBounds> kBucketBounds;

  Counters& counters_;
  std::vector<Current> started_;  // Of each thread.
};

struct RequestStats::Counters {
  // Linux's errno values lie below 134; what is beyond is counted as 0.
  static constexpr size_t kErrors = 134;
  struct alignas(64) Shard {
    std::array<PerOp, kOps> ops;
  };
  std::array<Shard, kShards> shards;
  std::array<std::array<std::atomic<uint64_t>, kErrors>, kOps> errors;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_SESSION_REQUEST_STATS_H_
