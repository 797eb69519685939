// Keeps a fault that happens again and again from filling the log. Of one text, and of texts that
// differ in numbers alone, so many lines a minute are written; then one line tells how many were
// left out. Counters have them all.
#ifndef PBKFS_SERVICE_LOG_REPEATS_H_
#define PBKFS_SERVICE_LOG_REPEATS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "fs/base/mutex.h"
#include "spdlog/sinks/sink.h"

namespace pbkfs {

// A fault of one place, such as a damaged block that a server reads again and again.
inline constexpr int kSameLinesPerMinute = 5;
// A fault of many places, such as a damaged file that is read from its start to its end.
inline constexpr int kAlikeLinesPerMinute = 60;
// Texts that are remembered at a time. Past it all others count as one.
inline constexpr size_t kMaxRememberedLines = 1000;

// Not synchronized.
class RepeatLimiter {
 public:
  struct LeftOut {
    std::string text;  // The first of them.
    uint64_t lines = 0;
  };

  // Whether a line may be written at `now`.
  bool Admit(absl::string_view text, absl::Time now);
  // What was left out in minutes that are over.
  std::vector<LeftOut> TakeLeftOut(absl::Time now);
  // When TakeLeftOut has something to tell, at the latest; the infinite future where nothing was
  // left out.
  absl::Time next_report() const { return next_report_; }

 private:
  struct Window {
    absl::Time end;
    int lines = 0;
    LeftOut left_out;
  };
  Window* WindowOf(std::string key, absl::Time now);

  std::map<std::string, Window> windows_;
  absl::Time next_report_ = absl::InfiniteFuture();
};

// Hands warnings and errors on to another sink as far as a RepeatLimiter lets them. Everything
// else, and lines of the logger named `exempt`, passes. Thread-safe.
class RepeatSink : public spdlog::sinks::sink {
 public:
  RepeatSink(std::shared_ptr<spdlog::sinks::sink> next, std::string exempt);

  void log(const spdlog::details::log_msg& message) override;
  void flush() override { next_->flush(); }
  void set_pattern(const std::string& pattern) override { next_->set_pattern(pattern); }
  void set_formatter(std::unique_ptr<spdlog::formatter> formatter) override {
    next_->set_formatter(std::move(formatter));
  }

 private:
  void Report(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<spdlog::sinks::sink> next_;
  const std::string exempt_;
  Mutex mutex_;
  RepeatLimiter limiter_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_LOG_REPEATS_H_
