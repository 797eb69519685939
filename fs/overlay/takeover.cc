#include "fs/overlay/takeover.h"

#include <cerrno>
#include <utility>

#include "fs/base/status.h"
#include "spdlog/spdlog.h"

namespace pbkfs {

TakeoverGate::TakeoverGate(std::shared_ptr<IoDir> witness, bool failed_before,
                           std::function<void()> failed) {
  if (failed_before) {
    MutexLock lock(&mutex_);
    done_ = true;
    result_ = ErrnoError(EIO, "an earlier write-out failed; mount again to see what is durable");
    return;
  }
  thread_ = std::thread([this, witness = std::move(witness), failed = std::move(failed)] {
    const absl::Status synced = witness->SyncFileSystem();
    if (!synced.ok()) {
      spdlog::error(
          "a write-out failed while no process served the mount: {}; fsync fails until "
          "the next mount",
          synced.ToString());
      failed();
    }
    MutexLock lock(&mutex_);
    result_ = synced;
    done_ = true;
    done_changed_.SignalAll();
  });
}

TakeoverGate::~TakeoverGate() {
  if (thread_.joinable()) thread_.join();
}

absl::Status TakeoverGate::Wait() const {
  MutexLock lock(&mutex_);
  while (!done_) done_changed_.Wait(&mutex_);
  return result_;
}

bool TakeoverGate::answered() const {
  MutexLock lock(&mutex_);
  return done_;
}

}  // namespace pbkfs
