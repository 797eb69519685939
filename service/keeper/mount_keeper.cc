#include "service/keeper/mount_keeper.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "service/keeper/notify.h"

namespace pbkfs {
namespace {

class OwnKeeper final : public MountKeeper {
 public:
  bool outlives_worker() const override { return false; }
  uint64_t restarts() const override { return 0; }
  absl::StatusOr<UniqueFd> Mount(const FuseMountOptions& options,
                                 const std::vector<int>&) override {
    PBKFS_ASSIGN_OR_RETURN(UniqueFd fuse, OpenFuse());
    PBKFS_RETURN_IF_ERROR(MountFuse(options, fuse));
    return fuse;
  }
  absl::Status Establish(const std::string&, bool) override { return absl::OkStatus(); }
  absl::Status Unmount(const std::string&, const std::string& target, UnmountMode mode) override {
    return mode == UnmountMode::kPlain ? UnmountFuse(target) : DetachFuse(target);
  }
  absl::Status Forget(const std::string&) override { return absl::OkStatus(); }
  absl::Status Serving(bool complete, const std::string& text) override {
    return NotifyServiceManager(ServingState(complete, text));
  }
  absl::Status EndConnection(const std::string&, const std::string&) override {
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<MountKeeper> MakeOwnKeeper() { return std::make_unique<OwnKeeper>(); }

absl::StatusOr<std::unique_ptr<KeeperClient>> KeeperClient::Connect(UniqueFd socket) {
  fcntl(socket.get(), F_SETFD, FD_CLOEXEC);
  std::unique_ptr<KeeperClient> client(new KeeperClient(std::move(socket)));
  client->receiver_ = std::thread([raw = client.get()] { raw->ReceiveAnswers(); });
  KeeperMessage hello;
  hello.call = KeeperCall::kHello;
  PBKFS_ASSIGN_OR_RETURN(KeeperMessage answer, client->Call(std::move(hello)));
  client->restarts_ = answer.number;
  if (answer.descriptors.empty()) return absl::InternalError("the keeper holds no memory");
  client->figures_ = std::move(answer.descriptors.front());
  answer.descriptors.erase(answer.descriptors.begin());
  client->listeners_ = std::move(answer.descriptors);
  return client;
}

KeeperClient::~KeeperClient() {
  shutdown(socket_.get(), SHUT_RDWR);
  if (receiver_.joinable()) receiver_.join();
}

void KeeperClient::ReceiveAnswers() {
  while (true) {
    absl::StatusOr<KeeperMessage> answer = ReceiveMessage(socket_.get());
    MutexLock lock(&mutex_);
    if (!answer.ok()) {
      closed_ = true;
      answered_.SignalAll();
      return;
    }
    const uint32_t tag = answer->tag;
    answers_.emplace(tag, *std::move(answer));
    answered_.SignalAll();
  }
}

absl::StatusOr<KeeperMessage> KeeperClient::Call(KeeperMessage request) {
  {
    MutexLock lock(&mutex_);
    request.tag = next_tag_++;
    PBKFS_RETURN_IF_ERROR(SendMessage(socket_.get(), request));
  }
  MutexLock lock(&mutex_);
  while (!closed_ && answers_.count(request.tag) == 0) answered_.Wait(&mutex_);
  const auto found = answers_.find(request.tag);
  if (found == answers_.end()) return absl::UnavailableError("the keeper has gone");
  KeeperMessage answer = std::move(found->second);
  answers_.erase(found);
  return answer;
}

absl::Status KeeperClient::CallFor(KeeperCall call, const std::string& id, absl::string_view what) {
  KeeperMessage request;
  request.call = call;
  request.id = id;
  PBKFS_ASSIGN_OR_RETURN(const KeeperMessage answer, Call(std::move(request)));
  return answer.error == 0 ? absl::OkStatus() : ErrnoError(answer.error, what);
}

absl::StatusOr<std::vector<HeldMount>> KeeperClient::Held() {
  std::vector<HeldMount> mounts;
  while (true) {
    KeeperMessage request;
    request.call = KeeperCall::kHeld;
    request.number = mounts.size();
    PBKFS_ASSIGN_OR_RETURN(KeeperMessage answer, Call(std::move(request)));
    if (answer.error == ENOENT) return mounts;
    if (answer.error != 0) return ErrnoError(answer.error, "asking the keeper for its mounts");
    HeldMount& mount = mounts.emplace_back();
    mount.id = std::move(answer.id);
    mount.target = std::move(answer.target);
    mount.flags = answer.flags;
    mount.reason = std::move(answer.text);
    if (answer.descriptors.size() < HeldMount::kFuse ||
        answer.descriptors.size() > HeldMount::kDescriptors) {
      return absl::InternalError("the keeper holds too few descriptors of a mount");
    }
    for (size_t i = 0; i < answer.descriptors.size(); ++i) {
      mount.descriptors[i] = std::move(answer.descriptors[i]);
    }
  }
}

absl::Status KeeperClient::Resumed() {
  return CallFor(KeeperCall::kResumed, "", "telling the keeper that the mounts go on");
}

absl::Status KeeperClient::Ready() {
  return CallFor(KeeperCall::kReady, "", "telling the keeper that the worker is ready");
}

absl::Status KeeperClient::Upgrade() {
  const absl::Status status = CallFor(KeeperCall::kUpgrade, "", "upgrade");
  if (status.ok() || ErrnoOf(status) == 0) return status;
  if (ErrnoOf(status) == EBUSY) {
    return ReasonError(absl::StatusCode::kAborted, reason::kOperationPending,
                       "another upgrade, or the end of the daemon, is under way; ask for the "
                       "daemon's status, and try again");
  }
  PBKFS_ASSIGN_OR_RETURN(const std::string outcome, LastUpgrade());
  return ReasonError(absl::StatusCode::kFailedPrecondition, reason::kUpgradeRefused,
                     absl::StrCat("the daemon stays as it is: upgrade ", outcome,
                                  "; install a program that runs, and try again"));
}

absl::StatusOr<std::string> KeeperClient::LastUpgrade() {
  KeeperMessage request;
  request.call = KeeperCall::kLastUpgrade;
  PBKFS_ASSIGN_OR_RETURN(KeeperMessage answer, Call(std::move(request)));
  if (answer.error != 0) return ErrnoError(answer.error, "asking the keeper for its upgrades");
  return std::move(answer.text);
}

absl::StatusOr<UniqueFd> KeeperClient::Mount(const FuseMountOptions& options,
                                             const std::vector<int>& descriptors) {
  KeeperMessage request;
  request.call = KeeperCall::kMount;
  request.id = options.mount_id;
  request.target = options.target;
  request.flags = options.read_only ? uint32_t{kHeldReadOnly} : 0;
  for (const int fd : descriptors) {
    request.descriptors.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  }
  PBKFS_ASSIGN_OR_RETURN(KeeperMessage answer, Call(std::move(request)));
  const std::string what = absl::StrCat("mount at ", options.target);
  if (answer.error != 0) return ErrnoError(answer.error, what);
  if (answer.descriptors.empty()) return absl::InternalError("the keeper sent no descriptor");
  return std::move(answer.descriptors[0]);
}

absl::Status KeeperClient::Establish(const std::string& id, bool can_resend) {
  KeeperMessage request;
  request.call = KeeperCall::kEstablish;
  request.id = id;
  request.flags = can_resend ? 0 : uint32_t{kHeldNoResend};
  PBKFS_ASSIGN_OR_RETURN(const KeeperMessage answer, Call(std::move(request)));
  return answer.error == 0 ? absl::OkStatus() : ErrnoError(answer.error, "keeping the mount");
}

absl::Status KeeperClient::Unmount(const std::string& id, const std::string& target,
                                   UnmountMode mode) {
  KeeperMessage request;
  request.call = KeeperCall::kUnmount;
  request.id = id;
  request.number = static_cast<uint64_t>(mode);
  PBKFS_ASSIGN_OR_RETURN(const KeeperMessage answer, Call(std::move(request)));
  const absl::string_view what = mode == UnmountMode::kPlain ? "unmount " : "detach ";
  return answer.error == 0 ? absl::OkStatus()
                           : ErrnoError(answer.error, absl::StrCat(what, target));
}

absl::Status KeeperClient::Forget(const std::string& id) {
  return CallFor(KeeperCall::kForget, id, "giving back a mount to the keeper");
}

absl::Status KeeperClient::Serving(bool complete, const std::string& text) {
  KeeperMessage request;
  request.call = KeeperCall::kServing;
  request.number = complete ? 1 : 0;
  request.text = text.substr(0, 1024);
  return Call(std::move(request)).status();
}

absl::Status KeeperClient::EndConnection(const std::string& id, const std::string& why) {
  KeeperMessage request;
  request.call = KeeperCall::kEndConnection;
  request.id = id;
  request.text = why.substr(0, 1024);
  PBKFS_ASSIGN_OR_RETURN(const KeeperMessage answer, Call(std::move(request)));
  return answer.error == 0 ? absl::OkStatus() : ErrnoError(answer.error, "ending a connection");
}

}  // namespace pbkfs
