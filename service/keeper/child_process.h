// Programs and calls that the keeper runs in processes of their own. The keeper has one thread, so
// that a fork copies all of it.
#ifndef PBKFS_SERVICE_KEEPER_CHILD_PROCESS_H_
#define PBKFS_SERVICE_KEEPER_CHILD_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fs/base/unique_fd.h"

namespace pbkfs {

// Runs `work` in a child, whose exit code is what `work` returns (0-255). For calls that may not
// come back: mount(2) and umount(2) can wait for a file system, perhaps for our own worker.
absl::StatusOr<pid_t> RunInChild(const std::function<int()>& work);

struct ProgramOptions {
  std::vector<std::string> arguments;  // argv, with the program's name.
  int oom_score = 0;                   // Of the child; the keeper's own is lower.
  int inherited = -1;                  // A descriptor that the child keeps under its number.
};

// Executes the program behind the descriptor `program`. The child dies with its parent.
absl::StatusOr<pid_t> RunProgram(int program, const ProgramOptions& options);

// The value of /proc/self/oom_score_adj, and a try to set it.
int OomScore();
void SetOomScore(int score);

// As many descriptors as the hard limit allows.
void RaiseDescriptorLimit();

// Whether the process has ended but for threads that can't end: its memory and descriptors are not
// free, and nobody can wait for it.
bool IsStuckZombie(pid_t pid);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_KEEPER_CHILD_PROCESS_H_
