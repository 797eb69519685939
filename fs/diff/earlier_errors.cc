#include "fs/diff/earlier_errors.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "absl/status/status.h"
#include "fs/base/status.h"
#include "fs/base/unique_fd.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

constexpr int kPatienceMilliseconds = 1000;

std::atomic<int> unanswered{0};

// A process can't be killed while one of its threads is in syncfs, and what the kernel tells then
// is lost with it: the question is left to a child that has nothing else of this process.
pid_t AskInChild(int fd) {
  const pid_t child = _Fork();
  if (child != 0) return child;
  const auto first = static_cast<unsigned>(fd);
  if (first > 0) syscall(SYS_close_range, 0u, first - 1, 0u);
  syscall(SYS_close_range, first + 1, UINT_MAX, 0u);
  _exit(syncfs(fd) == 0 ? 0 : 1);
}

void Report(const absl::Status& status) {
  if (status.ok()) return;
  spdlog::warn("{}: a write-out that failed before, and nobody was told; it is not this mount's",
               status.ToString());
}

// Blocks until the child ends.
absl::Status AnswerOf(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return ErrnoError(errno, "waiting for syncfs");
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? absl::OkStatus()
                                                       : ErrnoError(EIO, "syncfs");
}

}  // namespace

void HearEarlierErrors(IoDir& directory) {
  if (directory.descriptor() < 0) return Report(directory.SyncFileSystem());
  const pid_t child = AskInChild(directory.descriptor());
  if (child < 0) return Report(ErrnoError(errno, "fork"));
  const UniqueFd ended(static_cast<int>(syscall(SYS_pidfd_open, child, 0u)));
  pollfd event = {ended.get(), POLLIN, 0};
  if (poll(&event, 1, kPatienceMilliseconds) > 0) return Report(AnswerOf(child));
  unanswered.fetch_add(1);
  std::thread([child] {
    Report(AnswerOf(child));
    unanswered.fetch_sub(1);
  }).detach();
}

bool ErrorsAreBeingHeard() { return unanswered.load() > 0; }

}  // namespace pbkfs
