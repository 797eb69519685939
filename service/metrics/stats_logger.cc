#include "service/metrics/stats_logger.h"

#include <utility>

#include "service/logging.h"

namespace pbkfs {
namespace {

// Whether both are of one mount: one that is made anew under the same id starts from zero.
bool SameMount(const v1::MountStats& a, const v1::MountStats& b) {
  return a.create_time().seconds() == b.create_time().seconds() &&
         a.create_time().nanos() == b.create_time().nanos();
}

void LogDeltas(const std::string& mount, const v1::OverlayIoSnapshot& before,
               const v1::OverlayIoSnapshot& now) {
  LogEvent(spdlog::level::info, "overlay_io")
      .Field("mount", mount)
      .Field("handle_hits", now.handle_hits() - before.handle_hits())
      .Field("handle_misses", now.handle_misses() - before.handle_misses())
      .Field("handles_open", uint64_t{now.handles_open()})
      .Field("cache_hits", now.cache_hits() - before.cache_hits())
      .Field("cache_misses", now.cache_misses() - before.cache_misses())
      .Field("blocks_copied", now.blocks_copied() - before.blocks_copied())
      .Field("bytes_copied", now.bytes_copied() - before.bytes_copied())
      .Field("read_bytes_diff", now.read_bytes_diff() - before.read_bytes_diff())
      .Field("read_bytes_backup", now.read_bytes_backup() - before.read_bytes_backup())
      .Field("read_bytes_zero", now.read_bytes_zero() - before.read_bytes_zero())
      .Field("written_bytes", now.written_bytes() - before.written_bytes());
}

}  // namespace

StatsLogger::StatsLogger(Sample sample, absl::Duration interval) : sample_(std::move(sample)) {
  SetInterval(interval);
  thread_ = std::thread([this] { Run(); });
}

StatsLogger::~StatsLogger() {
  alarm_.Stop();
  thread_.join();
}

void StatsLogger::SetInterval(absl::Duration interval) {
  MutexLock lock(&mutex_);
  if (interval == interval_) return;
  interval_ = interval;
  next_ = interval_ > absl::ZeroDuration()
              ? Alarm::Clock::now() + absl::ToChronoNanoseconds(interval_)
              : Alarm::Clock::time_point::max();
  alarm_.Set(next_);
}

bool StatsLogger::Wait() {
  if (!alarm_.Wait()) return false;
  MutexLock lock(&mutex_);
  // Unless the interval was changed meanwhile.
  if (next_ <= Alarm::Clock::now()) next_ += absl::ToChronoNanoseconds(interval_);
  alarm_.Set(next_);
  return true;
}

void StatsLogger::Run() {
  bool logs = false;
  {
    MutexLock lock(&mutex_);
    logs = interval_ > absl::ZeroDuration();
  }
  const v1::StatsResponse stats = logs ? sample_() : v1::StatsResponse();
  for (const v1::MountStats& mount : stats.mounts()) last_[mount.mount_id()] = mount;
  while (Wait()) LogAll();
}

void StatsLogger::LogAll() {
  const v1::StatsResponse stats = sample_();
  std::map<std::string, v1::MountStats> now;
  for (const v1::MountStats& mount : stats.mounts()) {
    if (!mount.has_io()) continue;
    const auto it = last_.find(mount.mount_id());
    const bool known = it != last_.end() && SameMount(it->second, mount);
    if (mount.state() == v1::MOUNT_STATE_ACTIVE) {
      LogDeltas(mount.mount_id(),
                known ? it->second.io() : v1::OverlayIoSnapshot::default_instance(), mount.io());
    }
    now[mount.mount_id()] = mount;
  }
  last_ = std::move(now);
}

}  // namespace pbkfs
