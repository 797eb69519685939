// Tells on stderr what a command waits for, when that takes longer than a second: on a terminal as
// one line that is written again and goes away at the end, elsewhere as one line for each thing.
//
// The object belongs to one thread; a thread of its own writes, and only while the object lives.
#ifndef PBKFS_CLIENT_PROGRESS_H_
#define PBKFS_CLIENT_PROGRESS_H_

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <ostream>
#include <string>
#include <thread>

namespace pbkfs::client {

class Progress {
 public:
  // `what` is said as "pbkfs: <what>". Nothing else may write to `err` while the object lives.
  Progress(std::ostream& err, bool live, std::string what,
           std::chrono::milliseconds quiet = std::chrono::seconds(1));
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // What it waits for has become clear, or another one.
  void Say(const std::string& what);

 private:
  void Run();
  void Show();

  std::ostream& err_;
  const bool live_;
  const std::chrono::milliseconds quiet_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::mutex mutex_;  // The members below, and `err_` while the thread runs.
  std::condition_variable changed_;
  std::string what_;
  std::string shown_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_PROGRESS_H_
