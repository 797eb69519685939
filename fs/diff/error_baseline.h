// What a session's writes are judged from. syncfs(2) tells a descriptor also the write errors of a
// file system that came before it was opened and that nobody has been told yet: another program's,
// of days ago. Heard once, they are never told to a descriptor that is opened later.
#ifndef PBKFS_FS_DIFF_ERROR_BASELINE_H_
#define PBKFS_FS_DIFF_ERROR_BASELINE_H_

#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "fs/base/io.h"
#include "fs/base/mutex.h"

namespace pbkfs {

class ErrorBaseline {
 public:
  // A disk that is busy with other programs' writes is not waited for longer: the mount is to be
  // there at once.
  static constexpr std::chrono::milliseconds kPatience{1000};

  // Hears the errors of the file system of `directory`, whose diff has nothing unsynced. Returns
  // when that is done, or after `patience`. What fails then may be the session's own:
  // `failed_late` is called, from a thread of this object.
  ErrorBaseline(std::unique_ptr<IoDir> directory, std::chrono::milliseconds patience,
                std::function<void()> failed_late);
  // Waits for the end.
  ~ErrorBaseline();

 private:
  void Hear(IoDir& directory, const std::function<void()>& failed_late) ABSL_LOCKS_EXCLUDED(mutex_);

  Mutex mutex_;
  CondVar heard_changed_;
  bool heard_ ABSL_GUARDED_BY(mutex_) = false;
  bool late_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_ERROR_BASELINE_H_
