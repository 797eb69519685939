#include "service/keeper/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"

namespace pbkfs {
namespace {

constexpr int kCannotExecute = 126;

void ResetSignals() {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace

absl::StatusOr<pid_t> RunInChild(const std::function<int()>& work) {
  const pid_t child = fork();
  if (child < 0) return ErrnoError(errno, "fork");
  if (child > 0) return child;
  ResetSignals();
  _exit(work());
}

absl::StatusOr<pid_t> RunProgram(int program, const ProgramOptions& options) {
  std::vector<char*> arguments;
  for (const std::string& argument : options.arguments) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  return RunInChild([&] {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) return kCannotExecute;  // It died before the line above.
    SetOomScore(options.oom_score);
    if (options.inherited >= 0) fcntl(options.inherited, F_SETFD, 0);
    syscall(SYS_execveat, program, "", arguments.data(), environ, AT_EMPTY_PATH);
    return kCannotExecute;
  });
}

int OomScore() {
  std::ifstream file("/proc/self/oom_score_adj");
  int score = 0;
  file >> score;
  return score;
}

void SetOomScore(int score) {
  std::ofstream file("/proc/self/oom_score_adj");
  file << score;
}

void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

bool IsStuckZombie(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(')');
  return name_end != std::string::npos && name_end + 2 < line.size() && line[name_end + 2] == 'Z';
}

}  // namespace pbkfs
