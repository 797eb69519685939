#include "fs/session/serving_threads.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>
#include <utility>

#include "spdlog/spdlog.h"

namespace pbkfs {

ServingThreads::ServingThreads(int threads, Serve serve)
    : threads_(threads), serve_(std::move(serve)) {
  MutexLock lock(&mutex_);
  for (int thread = 0; thread < threads; ++thread) StartLocked();
}

void ServingThreads::StartLocked() {
  const int thread = static_cast<int>(started_.size());
  try {
    started_.emplace_back([this, thread] { Run(thread); });
    ++serving_;
  } catch (const std::system_error& error) {
    // The threads that there are go on; the next one that waits tries again.
    spdlog::error("a thread to serve a mount can't be started: {}", error.what());
  }
}

void ServingThreads::Run(int thread) {
  blocking_observer = this;
  serve_(thread,
         [this, thread](absl::FunctionRef<void()> idle) { return MayTakeAnother(thread, idle); });
  MutexLock lock(&mutex_);
  --serving_;
  ended_ = true;
  wake_.SignalAll();
}

void ServingThreads::BeginBlocking() {
  MutexLock lock(&mutex_);
  ++blocked_;
  if (ended_ || serving_ - blocked_ >= (threads_ + 1) / 2) return;
  if (sleeping_ > 0) {
    --sleeping_;
    ++wakes_;
    ++serving_;
    wake_.Signal();
  } else if (static_cast<int>(started_.size()) < threads_ + kMaxSpares) {
    StartLocked();
  }
}

void ServingThreads::EndBlocking() {
  MutexLock lock(&mutex_);
  --blocked_;
}

// A spare thread sleeps when there are enough without it.
bool ServingThreads::MayTakeAnother(int thread, absl::FunctionRef<void()> idle) {
  if (thread < threads_) return true;
  MutexLock lock(&mutex_);
  if (ended_ || serving_ - blocked_ <= threads_) return true;
  --serving_;
  ++sleeping_;
  SleepLocked(idle);
  if (wakes_ > 0) {
    --wakes_;
  } else {
    --sleeping_;
    ++serving_;
  }
  return !ended_;
}

void ServingThreads::SleepLocked(absl::FunctionRef<void()> idle) {
  while (wakes_ == 0 && !ended_) {
    if (wake_.WaitFor(&mutex_, kIdle)) continue;
    mutex_.Unlock();
    idle();
    mutex_.Lock();
    while (wakes_ == 0 && !ended_) wake_.Wait(&mutex_);
  }
}

void ServingThreads::Join() {
  // Nothing starts another once the first has ended.
  for (size_t i = 0;; ++i) {
    std::thread thread;
    {
      MutexLock lock(&mutex_);
      if (i == started_.size()) return;
      thread = std::move(started_[i]);
    }
    if (thread.joinable()) thread.join();
  }
}

void ServingThreads::Signal(int signal) {
  MutexLock lock(&mutex_);
  for (std::thread& thread : started_) {
    if (thread.joinable()) pthread_kill(thread.native_handle(), signal);
  }
}

bool ServingThreads::alive() const {
  MutexLock lock(&mutex_);
  return serving_ > 0;
}

int ServingThreads::spares() const {
  MutexLock lock(&mutex_);
  return static_cast<int>(started_.size()) - threads_;
}

}  // namespace pbkfs
