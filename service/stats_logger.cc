#include "service/stats_logger.h"

#include <chrono>
#include <optional>
#include <utility>

#include "service/logging.h"
#include "service/proto_convert.h"

namespace pbkfs {

StatsLogger::StatsLogger(const MountManager& manager, absl::Duration interval) : manager_(manager) {
  SetInterval(interval);
  thread_ = std::thread([this] { Run(); });
}

StatsLogger::~StatsLogger() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    wakeup_.SignalAll();
  }
  thread_.join();
}

void StatsLogger::SetInterval(absl::Duration interval) {
  MutexLock lock(&mutex_);
  if (interval == interval_) return;
  interval_ = interval;
  next_ = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(interval_);
  wakeup_.SignalAll();
}

bool StatsLogger::Wait() {
  MutexLock lock(&mutex_);
  while (!stop_) {
    if (interval_ <= absl::ZeroDuration()) {
      wakeup_.Wait(&mutex_);
      continue;
    }
    const auto rest = next_ - std::chrono::steady_clock::now();
    if (rest <= rest.zero()) break;
    wakeup_.WaitFor(&mutex_, std::chrono::ceil<std::chrono::milliseconds>(rest));
  }
  next_ += absl::ToChronoNanoseconds(interval_);
  return !stop_;
}

void StatsLogger::Run() {
  while (Wait()) LogAll();
}

void StatsLogger::LogAll() {
  std::map<std::string, Last> now;
  for (const auto& mount : manager_.Mounts()) {
    const std::optional<MountFigures> figures = mount->Figures();
    if (!figures.has_value()) continue;
    IoSnapshot before;
    const auto it = last_.find(mount->id());
    if (it != last_.end() && it->second.mount.lock() == mount) before = it->second.io;
    const auto delta = [&](IoCounter counter) { return figures->io[counter] - before[counter]; };
    v1::OverlayIoSnapshot total;
    ToProto(figures->io, &total);
    LogEvent(spdlog::level::info, "overlay_io")
        .Field("mount", mount->id())
        .Field("handle_hits", delta(IoCounter::kHandleHits))
        .Field("handle_misses", delta(IoCounter::kHandleMisses))
        .Field("handles_open", total.handles_open())
        .Field("cache_hits", delta(IoCounter::kCacheHits))
        .Field("cache_misses", delta(IoCounter::kCacheMisses))
        .Field("blocks_copied", delta(IoCounter::kBlocksCopied))
        .Field("bytes_copied", delta(IoCounter::kBytesCopied))
        .Field("read_bytes_diff", delta(IoCounter::kReadBytesDiff))
        .Field("read_bytes_backup", delta(IoCounter::kReadBytesBackup))
        .Field("read_bytes_zero", delta(IoCounter::kReadBytesZero))
        .Field("written_bytes", delta(IoCounter::kWrittenBytes));
    now[mount->id()] = Last{mount, figures->io};
  }
  last_ = std::move(now);
}

}  // namespace pbkfs
