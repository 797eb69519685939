#include "fs/overlay/idle_work.h"

#include <utility>

namespace pbkfs {

bool IdleWork::Offer(Task task) {
  MutexLock lock(&mutex_);
  if (stopped_ || tasks_.size() >= kMaxTasks) return false;
  tasks_.push_back(std::move(task));
  changed_.SignalAll();
  return true;
}

void IdleWork::Stop() {
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    tasks_.clear();
    changed_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

void IdleWork::Drain() {
  MutexLock lock(&mutex_);
  while (running_ || !tasks_.empty()) changed_.Wait(&mutex_);
}

void IdleWork::Run() {
  while (true) {
    Task task;
    {
      MutexLock lock(&mutex_);
      running_ = false;
      changed_.SignalAll();
      while (!stopped_ && tasks_.empty()) changed_.Wait(&mutex_);
      if (stopped_) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
      running_ = true;
    }
    task();
  }
}

}  // namespace pbkfs
