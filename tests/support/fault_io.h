// An Io that does what another one does (the real one, unless told otherwise), except where a test
// says otherwise: calls can be delayed, failed, and listed.
#ifndef PBKFS_TESTS_SUPPORT_FAULT_IO_H_
#define PBKFS_TESTS_SUPPORT_FAULT_IO_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fs/base/io.h"
#include "fs/base/mutex.h"

namespace pbkfs::testsupport {

class FaultIo : public Io {
 public:
  // Called before an operation ("read", "sync", "write", "truncate", "allocate", "writeback",
  // "rename", "create") on the file of that name, or a "sync" of a directory, named ".", from any
  // thread and with no lock held. An error is the operation's result, which is then not carried out.
  using Hook = std::function<absl::Status(const std::string& operation, const std::string& name)>;

  explicit FaultIo(Io& base = PosixIo()) : base_(base) {}

  void set_hook(Hook hook);
  // From now on a write that fails leaves the first half of its bytes.
  void set_short_writes(bool short_writes) { short_writes_ = short_writes; }
  bool short_writes() const { return short_writes_; }
  // The changing operations so far, as "operation name"; forgets them.
  std::vector<std::string> TakeEvents();

  absl::StatusOr<std::unique_ptr<IoDir>> OpenDir(const std::string& path) override;
  absl::Status MakeDir(const std::string& path, mode_t mode) override;

  absl::Status Before(const std::string& operation, const std::string& name);

 private:
  Io& base_;
  std::atomic<bool> short_writes_{false};
  Mutex mutex_;
  std::shared_ptr<const Hook> hook_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> events_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_FAULT_IO_H_
