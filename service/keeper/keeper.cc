#include "service/keeper/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "service/keeper/child_process.h"
#include "service/keeper/limits.h"
#include "service/keeper/notify.h"
#include "service/keeper/unix_socket.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

sigset_t WatchedSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR2}) sigaddset(&signals, signal);
  return signals;
}

std::string ProgramPath() {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  std::string text(path, length > 0 ? static_cast<size_t>(length) : 0);
  // What was replaced on the disk since.
  if (absl::EndsWith(text, " (deleted)")) text.resize(text.size() - 10);
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Keeper>> Keeper::Create(const KeeperOptions& options,
                                                       const std::string& handover) {
  std::unique_ptr<Keeper> keeper(new Keeper(options));
  PBKFS_RETURN_IF_ERROR(keeper->SetUp());
  if (!handover.empty()) {
    PBKFS_RETURN_IF_ERROR(keeper->LoadState(handover));
    return keeper;
  }
  keeper->oom_score_ = OomScore();
  for (const ListenAddress& address : options.listen) {
    PBKFS_ASSIGN_OR_RETURN(UniqueFd listener, ListenAt(address));
    keeper->listeners_.push_back(std::move(listener));
  }
  keeper->figures_.Reset(memfd_create("pbkfs-figures", MFD_CLOEXEC));
  if (!keeper->figures_.valid()) return ErrnoError(errno, "memory for counters");
  SetOomScore(kKeeperOomScore);
  return keeper;
}

absl::Status Keeper::SetUp() {
  program_path_ = ProgramPath();
  program_.Reset(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  if (!program_.valid()) return ErrnoError(errno, "/proc/self/exe (is /proc mounted?)");
  RaiseDescriptorLimit();
  signal(SIGPIPE, SIG_IGN);
  const sigset_t signals = WatchedSignals();
  if (sigprocmask(SIG_BLOCK, &signals, nullptr) != 0) return ErrnoError(errno, "sigprocmask");
  signals_.Reset(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_.valid()) return ErrnoError(errno, "signalfd");
  return absl::OkStatus();
}

int Keeper::PollTimeout() const {
  const bool waits = worker_.pid < 0 || !worker_.ready || worker_.killed || check_ >= 0 ||
                     upgrade_after_answer_ || worker_.stuck_since != Clock::time_point();
  // A worker that works well is looked at rarely: only to find one that can't be reaped.
  const auto tick = waits ? kTick : kTick * 4;
  return static_cast<int>(tick.count());
}

int Keeper::Run() {
  if (worker_.pid < 0) StartWorker();
  while (!ended_) {
    pollfd descriptors[2] = {{signals_.get(), POLLIN, 0}, {worker_.socket.get(), POLLIN, 0}};
    const auto now = Clock::now();
    int timeout = PollTimeout();
    if (worker_.pid < 0) {
      const auto rest =
          std::chrono::duration_cast<std::chrono::milliseconds>(NextStart() - now).count();
      timeout = rest < 0 ? 0 : std::min(timeout, static_cast<int>(rest) + 1);
    }
    if (poll(descriptors, 2, timeout) < 0 && errno != EINTR) {
      spdlog::critical("keeper: poll: {}", ErrnoError(errno, "poll").ToString());
      return 1;
    }
    // What the worker said before it died comes first.
    if (descriptors[1].revents != 0) HandleWorkerSocket();
    if (descriptors[0].revents != 0) HandleSignals();
    Reap();
    Tick();
    // Who is about to end does not hand over: the next program would not know of the stop signal.
    if (replace_self_ && children_.empty() && stop_signal_ == 0) ReplaceSelf();
  }
  for (auto& [id, mount] : mounts_) {
    spdlog::error("keeper: mount {} at {} ends with the daemon", id, mount.target);
    mount.established = false;
    EndConnection(mount, "the daemon has ended", /*force=*/true);
  }
  while (!children_.empty()) {
    int status = 0;
    const pid_t child = wait(&status);
    if (child < 0 && errno != EINTR) break;
    children_.erase(child);
  }
  for (const ListenAddress& address : options_.listen) {
    if (!address.path.empty()) unlink(address.path.c_str());
  }
  return exit_code_;
}

void Keeper::HandleSignals() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGUSR2) {
      BeginUpgrade(nullptr);
    } else if (signal == SIGTERM || signal == SIGINT) {
      stop_signal_ = signal;
      NotifyServiceManager("STOPPING=1\nSTATUS=unmounting").IgnoreError();
      // A worker that is not ready gets it then.
      if (worker_.pid >= 0 && worker_.ready) kill(worker_.pid, signal);
    } else if (signal == SIGHUP) {
      hangup_ = worker_.pid < 0 || !worker_.ready;
      if (!hangup_) kill(worker_.pid, signal);
    }
  }
}

void Keeper::HandleWorkerSocket() {
  while (worker_.socket.valid()) {
    absl::StatusOr<KeeperMessage> request = ReceiveMessage(worker_.socket.get());
    if (absl::IsUnavailable(request.status())) return;
    if (absl::IsCancelled(request.status())) {
      worker_.socket.Reset();
      return;
    }
    if (!request.ok()) {
      spdlog::error("keeper: {}", request.status().ToString());
      KillWorker("it sent what is no message");
      return;
    }
    Handle(*std::move(request));
  }
}

// Also what is not ours: as process 1 of a container every orphan becomes our child.
void Keeper::Reap() {
  int status = 0;
  while (true) {
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return;
    if (pid == worker_.pid) {
      // The last words of the dead.
      HandleWorkerSocket();
      WorkerEnded(status);
    } else if (pid == check_) {
      check_ = -1;
      CheckedNewProgram(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    } else if (const auto found = children_.find(pid); found != children_.end()) {
      Pending pending = std::move(found->second);
      children_.erase(found);
      ChildEnded(std::move(pending), WIFEXITED(status) ? WEXITSTATUS(status) : EIO);
    }
  }
}

void Keeper::Tick() {
  const auto now = Clock::now();
  if (ended_) return;
  if (worker_.pid < 0) {
    if (now >= NextStart()) StartWorker();
    return;
  }
  if (check_ >= 0 && now - check_started_ > kCheckTimeout) kill(check_, SIGKILL);
  if (upgrade_after_answer_ && !worker_.killed && now >= upgrade_at_) KillWorker("upgrade");
  if (!worker_.ready && !worker_.killed) {
    const bool upgrade = old_program_.valid();
    if (now - worker_.started > (upgrade ? kUpgradeTimeout : kReadyTimeout)) {
      KillWorker("it did not become ready");
    }
  }
  if (!IsStuckZombie(worker_.pid)) {
    worker_.stuck_since = Clock::time_point();
  } else if (worker_.stuck_since == Clock::time_point()) {
    worker_.stuck_since = now;
  } else if (now - worker_.stuck_since > kStuckTimeout) {
    EndConnections("the worker died, and the kernel does not let its threads go", 0,
                   /*force=*/true);
    worker_.stuck_since = now;
  }
}

}  // namespace pbkfs
