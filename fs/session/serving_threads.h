// The threads of a session. At least half of the configured number is always free to take a
// request: whenever more of them than the other half wait for a sync, a destruction or a ticket
// (fs/base/blocking.h), a spare thread takes over. Spare threads are started when they are first
// needed, sleep while they are not, and live as long as the session.
//
// Nothing is parked: an operation keeps the thread that holds its tickets, so that no operation
// ever waits for one that has no thread. A waiting thread costs its stack and its buffer.
#ifndef PBKFS_FS_SESSION_SERVING_THREADS_H_
#define PBKFS_FS_SESSION_SERVING_THREADS_H_

#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "fs/base/blocking.h"
#include "fs/base/mutex.h"

namespace pbkfs {

class ServingThreads final : public BlockingObserver {
 public:
  // More spare threads than a server has backends; past it a mount with so many waiting requests
  // serves the rest when one of them ends.
  static constexpr int kMaxSpares = 1000;

  // How long a spare thread sleeps before it gives its memory back.
  static constexpr std::chrono::milliseconds kIdle{1000};

  // Serves requests one by one, beginning when it is called with a thread's number: each call of
  // `next` asks whether to take another request. Returns when it says no, or when there are none
  // any more. `idle` is called, once, in a call that takes long.
  using Next = std::function<bool(absl::FunctionRef<void()> idle)>;
  using Serve = std::function<void(int thread, const Next& next)>;

  ServingThreads(int threads, Serve serve);
  // The source of requests must have ended.
  ~ServingThreads() override { Join(); }

  void Join();
  // Sends `signal`, which has a handler, to every thread, so that a wait for a request is
  // interrupted.
  void Signal(int signal);
  // Whether a thread still serves.
  bool alive() const;
  int spares() const;

  void BeginBlocking() override;
  void EndBlocking() override;

 private:
  void Run(int thread);
  bool MayTakeAnother(int thread, absl::FunctionRef<void()> idle);
  void SleepLocked(absl::FunctionRef<void()> idle) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int threads_;
  const Serve serve_;
  mutable Mutex mutex_;
  CondVar wake_;
  int serving_ ABSL_GUARDED_BY(mutex_) = 0;   // Threads that are not asleep and have not ended.
  int blocked_ ABSL_GUARDED_BY(mutex_) = 0;   // Of these.
  int sleeping_ ABSL_GUARDED_BY(mutex_) = 0;  // Spare threads that nobody has woken yet.
  int wakes_ ABSL_GUARDED_BY(mutex_) = 0;     // Sleepers that were woken and do not know it yet.
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> started_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_FS_SESSION_SERVING_THREADS_H_
