#include "service/metrics/stats_logger.h"

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "spdlog/sinks/ostream_sink.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

// Takes the lines of the logger for events.
class CapturedEvents {
 public:
  CapturedEvents() {
    auto logger = std::make_shared<spdlog::logger>(
        "event", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_));
    logger->set_pattern("%v");
    spdlog::drop("event");
    spdlog::register_logger(logger);
  }
  ~CapturedEvents() { spdlog::drop("event"); }
  std::vector<std::string> lines() const {
    return absl::StrSplit(text_.str(), '\n', absl::SkipEmpty());
  }

 private:
  std::ostringstream text_;
};

TEST(StatsLogger, LogsWhatWasAddedSinceItLookedLast) {
  CapturedEvents events;
  Mutex mutex;
  CondVar sampled;
  int samples = 0;
  const auto sample = [&] {
    MutexLock lock(&mutex);
    ++samples;
    sampled.SignalAll();
    v1::StatsResponse stats;
    v1::MountStats* old = stats.add_mounts();
    old->set_mount_id("old");
    old->set_state(v1::MOUNT_STATE_ACTIVE);
    old->mutable_io()->set_written_bytes(static_cast<uint64_t>(1000 + samples));
    v1::MountStats* remade = stats.add_mounts();
    remade->set_mount_id("remade");
    remade->set_state(v1::MOUNT_STATE_ACTIVE);
    remade->mutable_create_time()->set_seconds(samples);
    remade->mutable_io()->set_written_bytes(50);
    v1::MountStats* failed = stats.add_mounts();
    failed->set_mount_id("failed");
    failed->set_state(v1::MOUNT_STATE_FAILED);
    return stats;
  };
  {
    const StatsLogger logger(sample, absl::Milliseconds(1));
    MutexLock lock(&mutex);
    while (samples < 4) sampled.WaitFor(&mutex, std::chrono::seconds(1));
  }
  const std::vector<std::string> lines = events.lines();
  ASSERT_GE(lines.size(), 4u);
  for (const std::string& line : lines) {
    EXPECT_TRUE(absl::StartsWith(line, "overlay_io mount=")) << line;
    EXPECT_FALSE(absl::StrContains(line, "failed")) << line;
    const bool old = absl::StrContains(line, "mount=old ");
    EXPECT_TRUE(absl::EndsWith(line, old ? " written_bytes=1" : " written_bytes=50")) << line;
  }
}

TEST(StatsLogger, AnIntervalOfZeroLogsNothing) {
  const StatsLogger logger(
      []() -> v1::StatsResponse {
        ADD_FAILURE() << "it sampled";
        return {};
      },
      absl::ZeroDuration());
}

}  // namespace
}  // namespace pbkfs
