#include "fs/diff/error_baseline.h"

#include <utility>

#include "absl/status/status.h"
#include "spdlog/spdlog.h"

namespace pbkfs {

ErrorBaseline::ErrorBaseline(std::unique_ptr<IoDir> directory, std::chrono::milliseconds patience,
                             std::function<void()> failed_late) {
  thread_ = std::thread([this, directory = std::move(directory),
                         failed_late = std::move(failed_late)] { Hear(*directory, failed_late); });
  const auto deadline = std::chrono::steady_clock::now() + patience;
  MutexLock lock(&mutex_);
  while (!heard_) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) break;
    heard_changed_.WaitFor(&mutex_, left);
  }
  late_ = !heard_;
}

void ErrorBaseline::Hear(IoDir& directory, const std::function<void()>& failed_late) {
  const absl::Status synced = directory.SyncFileSystem();
  bool late = false;
  {
    MutexLock lock(&mutex_);
    heard_ = true;
    late = late_;
    heard_changed_.SignalAll();
  }
  if (synced.ok()) return;
  if (late) return failed_late();
  spdlog::warn("{}: an earlier write-out failed, and nobody was told; it is not this mount's",
               synced.ToString());
}

ErrorBaseline::~ErrorBaseline() { thread_.join(); }

}  // namespace pbkfs
