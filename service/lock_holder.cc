#include "service/lock_holder.h"

#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "fs/base/status.h"
#include "fs/base/unique_fd.h"
#include "fs/catalog/backup_lock.h"
#include "service/limits.h"
#include "service/lock_protocol.h"

namespace pbkfs {
namespace {

using DirectoryKey = std::pair<uint64_t, uint64_t>;

class LockHolder {
 public:
  // Until the daemon hangs up.
  void Run() {
    while (true) {
      RetryReleases();
      struct pollfd ready = {kLockHolderSocket, POLLIN, 0};
      const int timeout =
          releasing_.empty() ? -1 : static_cast<int>(kLockReleaseRetryPeriod.count());
      const int count = poll(&ready, 1, timeout);
      if (count < 0 && errno == EINTR) continue;
      if (count == 0) continue;
      LockRequest request;
      UniqueFd directory;
      if (count < 0 || !Receive(&request, &directory)) break;
      Answer(Execute(request, std::move(directory)));
    }
    for (auto& [key, directory] : held_) releasing_.insert({key, std::move(directory)});
    RetryReleases();
  }

 private:
  bool Receive(LockRequest* request, UniqueFd* directory) {
    struct iovec part = {request, sizeof(*request)};
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    ssize_t size;
    do {
      size = recvmsg(kLockHolderSocket, &message, MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    if (size != static_cast<ssize_t>(sizeof(*request))) return false;
    const struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int))) {
      int fd;
      memcpy(&fd, CMSG_DATA(header), sizeof(fd));
      directory->Reset(fd);
    }
    return true;
  }

  void Answer(const absl::Status& status) {
    LockReply reply;
    reply.code = static_cast<int32_t>(status.code());
    const absl::string_view text = status.message();
    text.copy(reply.message, sizeof(reply.message) - 1);
    (void)send(kLockHolderSocket, &reply, sizeof(reply), MSG_NOSIGNAL);
  }

  absl::Status Execute(const LockRequest& request, UniqueFd directory) {
    const absl::Duration wait = absl::Milliseconds(request.wait_milliseconds);
    const DirectoryKey key(request.device, request.inode);
    switch (request.command) {
      case LockCommand::kLock: {
        // Still in the list where giving it back has not worked yet.
        releasing_.erase(key);
        PBKFS_RETURN_IF_ERROR(LockBackupShared(directory.get(), getpid(), wait));
        held_[key] = std::move(directory);
        return absl::OkStatus();
      }
      case LockCommand::kUnlock: {
        auto node = held_.extract(key);
        if (node.empty()) return absl::OkStatus();
        releasing_.insert(std::move(node));
        RetryReleases();
        return absl::OkStatus();
      }
      case LockCommand::kCleanUp:
        return RemoveDeadHolder(directory.get(), getpid(), static_cast<pid_t>(request.dead_pid),
                                wait);
    }
    return absl::InvalidArgumentError("unknown command");
  }

  // Gives back what nobody needs. A directory that was deleted is given back.
  void RetryReleases() {
    for (auto it = releasing_.begin(); it != releasing_.end();) {
      const absl::Status status = UnlockBackupShared(it->second.get(), getpid(), kReleaseWait);
      const bool gone = status.ok() || ErrnoOf(status) == ENOENT || ErrnoOf(status) == EROFS;
      it = gone ? releasing_.erase(it) : std::next(it);
    }
  }

  static constexpr absl::Duration kReleaseWait = absl::Milliseconds(200);

  std::map<DirectoryKey, UniqueFd> held_;
  std::map<DirectoryKey, UniqueFd> releasing_;
};

bool BecomeOwner(uid_t uid, gid_t gid) {
  if (geteuid() == uid && uid != 0) return true;
  if (uid != 0 && setgroups(0, nullptr) != 0) return false;
  return setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0;
}

}  // namespace

int RunLockHolder(const std::vector<std::string>& arguments) {
  uint32_t uid = 0;
  uint32_t gid = 0;
  struct stat st;
  if (arguments.size() != 2 || !absl::SimpleAtoi(arguments[0], &uid) ||
      !absl::SimpleAtoi(arguments[1], &gid) || fstat(kLockHolderSocket, &st) != 0 ||
      !S_ISSOCK(st.st_mode)) {
    fputs("pbkfsd: the lock holder is started by pbkfsd itself\n", stderr);
    return 2;
  }
  // The daemon says when it ends, by hanging up: signals that are sent to a whole group or service
  // must not take the locks from mounts that are still there. PR_SET_PDEATHSIG would fire when the
  // thread ends that started this process.
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) signal(number, SIG_IGN);
  (void)prctl(PR_SET_NAME, "pbkfs-lock");
  (void)umask(077);
  if (chdir("/") != 0 || !BecomeOwner(uid, gid)) {
    perror("pbkfsd: the lock holder can't become the owner of the catalog");
    return 1;
  }
  LockHolder().Run();
  return 0;
}

}  // namespace pbkfs
