// Starting, watching and replacing the worker.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "service/keeper/child_process.h"
#include "service/keeper/keeper.h"
#include "service/keeper/limits.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

// How often within the window; forgets what is older.
size_t CountWithin(std::deque<std::chrono::steady_clock::time_point>* times,
                   std::chrono::steady_clock::time_point now) {
  times->push_back(now);
  while (now - times->front() > kDeathWindow) times->pop_front();
  return times->size();
}

std::string Describe(int status) {
  if (WIFSIGNALED(status)) {
    return absl::StrCat("killed by signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)),
                        ")");
  }
  return absl::StrCat("ended with exit code ", WEXITSTATUS(status));
}

}  // namespace

void Keeper::StartWorker() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    spdlog::critical("keeper: socketpair: {}", strerror(errno));
    start_at_ = Clock::now() + kStartDelay;
    return;
  }
  UniqueFd ours(pair[0]);
  const UniqueFd theirs(pair[1]);
  fcntl(ours.get(), F_SETFL, O_NONBLOCK);
  ProgramOptions program;
  program.arguments = options_.arguments;
  program.arguments.insert(program.arguments.begin() + 1, absl::StrCat(kWorkerFlag, theirs.get()));
  program.oom_score = oom_score_;
  program.inherited = theirs.get();
  const absl::StatusOr<pid_t> pid = RunProgram(program_.get(), program);
  if (!pid.ok()) {
    spdlog::critical("keeper: starting the worker: {}", pid.status().ToString());
    start_at_ = Clock::now() + kStartDelay;
    return;
  }
  worker_ = Worker();
  worker_.pid = *pid;
  worker_.socket = std::move(ours);
  worker_.started = Clock::now();
  ++generation_;
  if (generation_ > 1) ++restarts_;
}

Keeper::Clock::time_point Keeper::NextStart() const {
  for (const auto& [child, pending] : children_) {
    const KeeperCall call = pending.request.call;
    if (call == KeeperCall::kMount || call == KeeperCall::kEndConnection) {
      return start_at_ + kUnfinishedTimeout;
    }
  }
  return start_at_;
}

void Keeper::KillWorker(const char* why) {
  spdlog::error("keeper: killing worker {}: {}", worker_.pid, why);
  worker_.killed = true;
  kill(worker_.pid, SIGKILL);
}

void Keeper::WorkerEnded(int status) {
  const bool was_ready = worker_.ready;
  const bool intended = upgrade_after_answer_;
  const std::string how = Describe(status);
  worker_.pid = -1;
  worker_.socket.Reset();
  const bool exited = WIFEXITED(status);
  const int code = exited ? WEXITSTATUS(status) : 1;
  DiscardUnfinished();
  if (old_program_.valid() && !was_ready) {
    const std::string why = worker_.killed ? "did not become ready in time" : how;
    spdlog::error("keeper: the new program {}; going back to the old one", why);
    last_upgrade_ = absl::StrCat("fell back to the old program: the new one ", why);
    program_ = std::move(old_program_);
    upgrade_after_answer_ = false;
    start_at_ = Clock::now();
    return;
  }
  // A stop, asked of us or of the worker itself; or a first start that can't be.
  if (exited && ((code == 0 && mounts_.empty()) || stop_signal_ != 0 ||
                 (generation_ == 1 && !was_ready))) {
    ended_ = true;
    exit_code_ = code;
    return;
  }
  upgrade_after_answer_ = false;
  start_at_ = Clock::now();
  if (intended) {
    old_program_ = std::move(program_);
    program_ = std::move(new_program_);
    return;
  }
  spdlog::error("keeper: the worker was {}; {} mounts wait for the next one", how, mounts_.size());
  EndConnections(
      absl::StrCat("the worker was ", how, ", and this kernel can't send its requests again"),
      kHeldNoResend, /*force=*/false);
  const bool own_crash = exited || WTERMSIG(status) != SIGKILL || worker_.killed;
  if (!was_ready && own_crash) {
    ++failed_starts_;
    start_at_ += kStartDelay * failed_starts_;
  }
  if (GivesUp(own_crash)) {
    EndConnections(absl::StrCat("workers died too often, the last one was ", how), 0,
                   /*force=*/false);
    failed_starts_ = 0;
    deaths_.clear();
    crashes_.clear();
  }
}

bool Keeper::GivesUp(bool own_crash) {
  const auto now = Clock::now();
  bool gives_up = failed_starts_ >= kMaxFailedStarts;
  gives_up |= CountWithin(&deaths_, now) > static_cast<size_t>(options_.max_deaths);
  if (own_crash) gives_up |= CountWithin(&crashes_, now) > kMaxCrashes;
  return gives_up;
}

// What the worker had begun and nobody knows of.
void Keeper::DiscardUnfinished() {
  for (auto it = mounts_.begin(); it != mounts_.end();) {
    HeldMount& mount = it->second;
    if (mount.established) {
      ++it;
      continue;
    }
    EndConnection(mount, "its worker died while it was made", /*force=*/true);
    it = mounts_.erase(it);
  }
}

void Keeper::EndConnections(const std::string& why, uint32_t only_with_flag, bool force) {
  for (auto& [id, mount] : mounts_) {
    if (mount.Has(kHeldFailed) || mount.Has(kHeldUnmounted)) continue;
    if (only_with_flag != 0 && !mount.Has(only_with_flag)) continue;
    spdlog::error("keeper: mount {} fails: {}; its users get errors", id, why);
    EndConnection(mount, why, force);
  }
}

void Keeper::WorkerIsReady() {
  worker_.ready = true;
  failed_starts_ = 0;
  const auto took =
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - worker_.started);
  spdlog::info("keeper: worker {} is ready after {} ms", worker_.pid, took.count());
  if (old_program_.valid()) {
    old_program_.Reset();
    replace_self_ = true;
  }
  if (stop_signal_ != 0) kill(worker_.pid, stop_signal_);
  if (hangup_) kill(worker_.pid, SIGHUP);
  hangup_ = false;
}

void Keeper::BeginUpgrade(const KeeperMessage* request) {
  if (check_ >= 0 || old_program_.valid() || upgrade_after_answer_ || replace_self_ ||
      stop_signal_ != 0) {
    spdlog::error("keeper: no upgrade: another one, or the end of the daemon, is under way");
    if (request != nullptr) Answer(*request, EBUSY);
    return;
  }
  const auto refuse = [&](int error, const std::string& why) {
    RefuseUpgrade(why);
    if (request != nullptr) Answer(*request, error);
  };
  new_program_.Reset(open(program_path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!new_program_.valid()) return refuse(errno, absl::StrCat(program_path_, " can't be opened"));
  ProgramOptions program;
  program.arguments = {options_.arguments[0], absl::StrCat(kCheckFlag, HandoverVersions())};
  const absl::StatusOr<pid_t> pid = RunProgram(new_program_.get(), program);
  if (!pid.ok()) return refuse(EIO, pid.status().ToString());
  check_ = *pid;
  check_started_ = Clock::now();
  if (request == nullptr) return;
  Pending& waiting = children_[check_];
  waiting.request.call = request->call;
  waiting.request.tag = request->tag;
  waiting.answer = true;
  waiting.worker_generation = generation_;
}

void Keeper::CheckedNewProgram(bool good) {
  KeeperMessage request;
  bool answer = false;
  for (auto it = children_.begin(); it != children_.end(); ++it) {
    if (it->second.request.call != KeeperCall::kUpgrade) continue;
    answer = it->second.worker_generation == generation_;
    request = std::move(it->second.request);
    children_.erase(it);
    break;
  }
  if (!good) {
    RefuseUpgrade(
        absl::StrCat(program_path_, " does not run, or does not read this version's state"));
  } else if (worker_.pid < 0) {
    RefuseUpgrade("the worker died meanwhile; ask again");
    good = false;
  }
  if (answer) Answer(request, good ? 0 : ENOEXEC);
  if (!good) return;
  spdlog::info("keeper: going over to the program that is now at {}", program_path_);
  last_upgrade_ = absl::StrCat("going over to ", program_path_);
  upgrade_after_answer_ = true;
  upgrade_at_ = Clock::now();
  if (answer) upgrade_at_ += kUpgradeDelay;
}

void Keeper::RefuseUpgrade(const std::string& why) {
  spdlog::error("keeper: no upgrade: {}", why);
  last_upgrade_ = absl::StrCat("refused: ", why);
  new_program_.Reset();
}

void Keeper::ReplaceSelf() {
  replace_self_ = false;
  const UniqueFd state(static_cast<int>(memfd_create("pbkfs-keeper", 0)));
  const std::string text = SaveState();
  if (!state.valid() ||
      write(state.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    spdlog::error("keeper: can't hand over to the new program; the old keeper stays");
    return;
  }
  std::vector<std::string> arguments = options_.arguments;
  arguments.erase(std::remove_if(arguments.begin(), arguments.end(),
                                 [](const std::string& argument) {
                                   return absl::StartsWith(argument, kHandoverFlag);
                                 }),
                  arguments.end());
  arguments.insert(arguments.begin() + 1, absl::StrCat(kHandoverFlag, state.get()));
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  std::vector<int> kept;
  const auto keep = [&kept](const UniqueFd& fd) {
    if (fd.valid()) kept.push_back(fd.get());
  };
  keep(worker_.socket);
  keep(figures_);
  for (const UniqueFd& listener : listeners_) keep(listener);
  for (const auto& [id, mount] : mounts_) {
    for (const UniqueFd& fd : mount.descriptors) keep(fd);
  }
  for (const int fd : kept) fcntl(fd, F_SETFD, 0);
  syscall(SYS_execveat, program_.get(), "", pointers.data(), environ, AT_EMPTY_PATH);
  spdlog::error("keeper: executing the new program: {}; the old keeper stays", strerror(errno));
  for (const int fd : kept) fcntl(fd, F_SETFD, FD_CLOEXEC);
}

}  // namespace pbkfs
