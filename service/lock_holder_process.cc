#include "service/lock_holder_process.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fs/base/status.h"
#include "service/limits.h"
#include "service/lock_holder.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

absl::Status HolderFailed(absl::string_view what) {
  return ReasonError(absl::StatusCode::kFailedPrecondition, reason::kCatalogLockFailed, what);
}

absl::StatusOr<pid_t> Spawn(const std::string& program, int socket, uid_t uid, gid_t gid) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&actions, socket, kLockHolderSocket);
  posix_spawn_file_actions_addclosefrom_np(&actions, kLockHolderSocket + 1);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  // A name of its own, so that nobody takes it for the daemon.
  std::string name = "pbkfs-catalog-lock";
  std::string flag = kLockHolderFlag;
  std::string user = absl::StrCat(uid);
  std::string group = absl::StrCat(gid);
  char* arguments[] = {name.data(), flag.data(), user.data(), group.data(), nullptr};
  char* environment[] = {nullptr};
  pid_t pid = -1;
  const int error =
      posix_spawn(&pid, program.c_str(), &actions, &attributes, arguments, environment);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return ErrnoError(error, absl::StrCat("starting ", program));
  return pid;
}

}  // namespace

std::string ProcessStartTime(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string text;
  std::getline(file, text);
  // The name of the program may hold anything; what follows it is numbers.
  const size_t end = text.rfind(')');
  if (end == std::string::npos) return "";
  const std::vector<std::string> fields =
      absl::StrSplit(text.substr(end + 1), ' ', absl::SkipEmpty());
  constexpr size_t kStartTimeField = 22 - 3;  // Counted from 1, the first two stand before.
  return fields.size() > kStartTimeField ? fields[kStartTimeField] : "";
}

LockHolderProcess::LockHolderProcess(pid_t pid, UniqueFd socket)
    : pid_(pid), start_time_(ProcessStartTime(pid)), socket_(std::move(socket)) {}

absl::StatusOr<std::shared_ptr<LockHolderProcess>> LockHolderProcess::Start(
    const std::string& program, uid_t uid, gid_t gid) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoError(errno, "making a socket pair");
  }
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  absl::StatusOr<pid_t> pid = Spawn(program, theirs.get(), uid, gid);
  if (!pid.ok()) return HolderFailed(pid.status().message());
  return std::shared_ptr<LockHolderProcess>(new LockHolderProcess(*pid, std::move(ours)));
}

LockHolderProcess::~LockHolderProcess() {
  shutdown(socket_.get(), SHUT_RDWR);
  const absl::Time deadline = absl::Now() + absl::FromChrono(kLockHolderExitWait);
  while (waitpid(pid_, nullptr, WNOHANG) == 0) {
    if (absl::Now() > deadline) {
      spdlog::warn("the lock holder {} does not end; it is killed", pid_);
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
      return;
    }
    poll(nullptr, 0, 5);
  }
}

bool LockHolderProcess::alive() const {
  struct pollfd state = {socket_.get(), 0, 0};
  return poll(&state, 1, 0) == 0;
}

absl::Status LockHolderProcess::Lock(DirectoryKey key, int directory, absl::Duration wait) {
  MutexLock lock(&mutex_);
  int& users = users_[key];
  if (users == 0) {
    LockRequest request;
    request.command = LockCommand::kLock;
    request.device = key.first;
    request.inode = key.second;
    if (absl::Status status = Call(request, directory, wait); !status.ok()) {
      users_.erase(key);
      return status;
    }
  }
  ++users;
  return absl::OkStatus();
}

void LockHolderProcess::Unlock(DirectoryKey key) {
  MutexLock lock(&mutex_);
  const auto it = users_.find(key);
  if (it == users_.end() || --it->second > 0) return;
  users_.erase(it);
  LockRequest request;
  request.command = LockCommand::kUnlock;
  request.device = key.first;
  request.inode = key.second;
  if (absl::Status status = Call(request, -1, absl::ZeroDuration()); !status.ok()) {
    spdlog::warn("giving back a lock of the catalog: {}", std::string(status.message()));
  }
}

absl::Status LockHolderProcess::CleanUp(int directory, pid_t dead, absl::Duration wait) {
  MutexLock lock(&mutex_);
  LockRequest request;
  request.command = LockCommand::kCleanUp;
  request.dead_pid = dead;
  return Call(request, directory, wait);
}

absl::Status LockHolderProcess::Call(LockRequest request, int directory, absl::Duration wait) {
  const absl::Status lost = HolderFailed("the process that holds the locks of the catalog ended");
  request.wait_milliseconds =
      static_cast<uint32_t>(absl::ToInt64Milliseconds(std::max(wait, absl::ZeroDuration())));
  struct iovec part = {&request, sizeof(request)};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (directory >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &directory, sizeof(directory));
  }
  if (sendmsg(socket_.get(), &message, MSG_NOSIGNAL) < 0) return lost;
  // A dead file server must not hang the daemon. The answer that comes late would be taken for the
  // next one, so the connection is over then.
  struct pollfd ready = {socket_.get(), POLLIN, 0};
  const auto patience = absl::FromChrono(kLockHolderExitWait) + wait;
  int count;
  do {
    count = poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(patience)));
  } while (count < 0 && errno == EINTR);
  LockReply reply;
  if (count <= 0 || recv(socket_.get(), &reply, sizeof(reply), 0) != sizeof(reply)) {
    shutdown(socket_.get(), SHUT_RDWR);
    return lost;
  }
  if (reply.code == 0) return absl::OkStatus();
  reply.message[sizeof(reply.message) - 1] = '\0';
  return HolderFailed(reply.message);
}

}  // namespace pbkfs
