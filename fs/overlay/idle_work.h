// Work that nobody waits for, done by one thread of the mount in the order of arrival: copying
// blocks that were read into the diff, starting to write out. The queue is short; what finds it
// full is dropped. Thread-safe.
#ifndef PBKFS_FS_OVERLAY_IDLE_WORK_H_
#define PBKFS_FS_OVERLAY_IDLE_WORK_H_

#include <deque>
#include <functional>
#include <thread>

#include "fs/base/mutex.h"

namespace pbkfs {

class IdleWork {
 public:
  using Task = std::function<void()>;

  // A task holds a few numbers; with the largest reads the tasks here stand for 128 MiB.
  static constexpr size_t kMaxTasks = 128;

  IdleWork() : thread_([this] { Run(); }) {}
  ~IdleWork() { Stop(); }
  IdleWork(const IdleWork&) = delete;
  IdleWork& operator=(const IdleWork&) = delete;

  // False = the queue is full, or stopped.
  bool Offer(Task task);
  // Waits for the task that runs; the others are dropped. Nothing runs after it.
  void Stop();
  // Waits until nothing is queued or running.
  void Drain();

 private:
  void Run();

  Mutex mutex_;
  CondVar changed_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: it begins at once.
};

}  // namespace pbkfs

#endif  // PBKFS_FS_OVERLAY_IDLE_WORK_H_
