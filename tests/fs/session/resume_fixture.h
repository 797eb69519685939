// A FUSE mount whose serving process is killed and replaced: the test holds the descriptors as the
// keeper does, and client processes that know nothing of it use the mount.
#ifndef PBKFS_TESTS_FS_SESSION_RESUME_FIXTURE_H_
#define PBKFS_TESTS_FS_SESSION_RESUME_FIXTURE_H_

#include <gtest/gtest.h>
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "fs/base/unique_fd.h"
#include "fs/session/session_memory.h"
#include "tests/fs/session/fuse_relay.h"
#include "tests/fs/session/mounted_overlay.h"
#include "tests/support/memory_tree.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs::testsupport {

// Memory that this process and those that it forks share.
void* SharedMemory(size_t bytes);
template <typename T>
T* NewShared() {
  return new (SharedMemory(sizeof(T))) T;
}

class ResumeTest : public MountTest {
 protected:
  void SetUp() override;
  void TearDown() override;

  std::string DiffPath() const { return directory_.path() + "/diff"; }
  std::string At(const std::string& name) const { return absl::StrCat(target_, "/", name); }

  // Mounts, and starts the first worker; the first half of it leaves the start to the caller.
  void Mount();
  void PrepareMount();
  // A clean unmount, and a check of the diff.
  void Unmount();
  void Detach();  // The kernel's part of it.
  void CheckDiffIsClean();
  // The connection ends, however many requests wait; the worker is dead.
  void AbortConnection();

  void StartWorker();
  // The two halves of it: the worker begins to take over; whether it has, or died before.
  void BeginWorker();
  bool AwaitReady();
  void Kill();
  void Restart() {
    Kill();
    StartWorker();
  }
  // Waits until the worker has died as it was ordered to.
  void AwaitDeath();
  // Whether it has died; it is reaped then.
  bool WorkerDied();

  // As a worker does when it takes over: what had no answer waits for a reader again.
  void AskForResend();

  // Runs `body` in a process that is a client of the mount and nothing else.
  pid_t StartClient(const std::function<int()>& body);
  // The exit code, or -1 where it was killed.
  static int WaitForClient(pid_t client);

  // Requests that the kernel sent again.
  uint64_t Resent() { return memory_->resent().load(); }
  // All but so many handles are released, now or in a moment.
  void ExpectHandles(size_t most);
  void ExpectNoHandles() { ExpectHandles(0); }

  // What a worker does; the exit code.
  int Work(bool first, int ready);
  // Its part with the kernel; writes to `ready` when it has begun. 0, or the exit code.
  int Serve(int ready, Overlay* overlay, SessionMemory* memory);

  struct WorkerOrders {
    std::atomic<bool> fail_log_syncs{false};
    // Writes to the disk wait; how many do.
    std::atomic<bool> hold_writes{false};
    std::atomic<int> held_writes{0};
    // The worker dies before the step, counted in calls of Io, at which this reaches 0.
    std::atomic<int> io_steps{0};
    // Checkpoints of the log that are asked for, and that were made.
    std::atomic<int> checkpoints_asked{0};
    std::atomic<int> checkpoints_made{0};
  };

  TemporaryDirectory directory_;
  std::string target_;
  DiffIdentity identity_;
  RelayOrders* relay_ = nullptr;  // Set before the start of a worker: its messages go through it.
  WorkerOrders* orders_ = nullptr;
  bool unmounted_ = false;  // Workers have no kernel to serve, only a diff to close.
  UniqueFd fuse_, held_directory_, held_lock_, witness_;
  uint64_t nonce_ = 0;
  std::unique_ptr<SessionMemory> memory_;
  std::unique_ptr<DiffStore> first_diff_;
  pid_t worker_ = -1;
  UniqueFd ready_;  // Says when the worker is.
  bool mounted_ = false;
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_FS_SESSION_RESUME_FIXTURE_H_
