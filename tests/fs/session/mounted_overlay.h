// An overlay over a tree in memory, mounted for real inside the test process.
//
// Threads of a session must never touch their own mount: only threads of the test do. What maps
// pages of the mount runs in a child process (InChild), because a page fault that waits for the
// session while it holds the process's memory map would stop the session's threads too.
#ifndef PBKFS_TESTS_FS_SESSION_MOUNTED_OVERLAY_H_
#define PBKFS_TESTS_FS_SESSION_MOUNTED_OVERLAY_H_

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "fs/base/unique_fd.h"
#include "fs/session/fuse_session.h"
#include "fs/session/session_memory.h"
#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs::testsupport {

// Why nothing can be mounted here, or "".
std::string MountingIsImpossible();

// The mount and everything under it. The mount is gone when this is, also when the process dies.
class MountedOverlay {
 public:
  explicit MountedOverlay(std::map<std::string, MemoryTree::Entry> lower,
                          const OverlayOptions& options = {});
  // Detaches the mount and ends its connection. Descriptors that are still open get errors.
  ~MountedOverlay();

  OverlayFixture& fs() { return fs_; }
  FaultIo& io() { return fs_.io(); }
  Overlay& overlay() { return fs_.overlay(); }
  FuseSession& session() { return *session_; }
  // The path of `name`, relative to the root of the mount.
  std::string Path(const std::string& name) const { return target_ + "/" + name; }

  // A clean unmount and a new mount; no file may be open.
  void Remount();
  // The process dies, as far as the diff can tell, and the diff is mounted again.
  void DieAndRemount();

 private:
  void Mount();
  void Detach();

  const OverlayOptions options_;
  OverlayFixture fs_;
  std::string target_;
  std::unique_ptr<SessionMemory> memory_;
  std::unique_ptr<FuseSession> session_;
};

// A test that mounts.
class MountTest : public testing::Test {
 protected:
  void SetUp() override;
};

// Runs `body` in a child process and returns what it returns, or -1 where the child was killed. The
// child may do system calls and nothing that needs a lock of this process, such as memory.
int InChild(const std::function<int()>& body);

// Opens a file, or fails the test.
UniqueFd OpenFile(const std::string& path, int flags, mode_t mode = 0600);

// The size as the daemon says it, past the kernel's cache of attributes; -1 for an error.
int64_t SizeFromDaemon(int fd);

// Page-aligned memory for O_DIRECT.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(size_t size);
  explicit AlignedBuffer(const std::string& content);
  char* data() { return data_.get(); }
  size_t size() const { return size_; }
  std::string text() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(char* memory) const { free(memory); }
  };
  size_t size_;
  std::unique_ptr<char, Free> data_;
};

// Waits until `condition` holds; false when it does not for a minute.
bool Eventually(const std::function<bool()>& condition);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_FS_SESSION_MOUNTED_OVERLAY_H_
