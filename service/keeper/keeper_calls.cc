// What the worker asks for (PROTOCOL.md).
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/session/session_memory.h"
#include "service/keeper/child_process.h"
#include "service/keeper/keeper.h"
#include "service/keeper/mounter.h"
#include "service/keeper/notify.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

UniqueFd Duplicate(const UniqueFd& fd) { return UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)); }

KeeperMessage AnswerTo(const KeeperMessage& request) {
  KeeperMessage answer;
  answer.call = request.call;
  answer.tag = request.tag;
  return answer;
}

int ExitCodeOf(const absl::Status& status) {
  const int error = ErrnoOf(status);
  return error > 0 && error < 256 ? error : EIO;
}

}  // namespace

std::string HandoverVersions() {
  return absl::StrCat(kKeeperProtocolVersion, ".", SessionMemory::kVersion);
}

HeldMount* Keeper::Find(const std::string& id) {
  const auto found = mounts_.find(id);
  return found == mounts_.end() ? nullptr : &found->second;
}

Keeper::Pending* Keeper::UnmountOfTheDead(const std::string& id) {
  for (auto& [child, pending] : children_) {
    const KeeperMessage& request = pending.request;
    const bool waits = pending.worker_generation == generation_;
    if (request.call == KeeperCall::kUnmount && request.id == id && !waits) return &pending;
  }
  return nullptr;
}

void Keeper::Answer(const KeeperMessage& request, int error) {
  KeeperMessage answer = AnswerTo(request);
  answer.error = error;
  // A worker that can't be told is about to be reaped.
  SendMessage(worker_.socket.get(), answer).IgnoreError();
}

void Keeper::Handle(KeeperMessage request) {
  switch (request.call) {
    case KeeperCall::kHello:
      return AnswerHello(request);
    case KeeperCall::kHeld:
      return AnswerHeld(request);
    case KeeperCall::kMount:
      return StartMount(std::move(request));
    case KeeperCall::kUnmount:
      return StartUnmount(std::move(request));
    case KeeperCall::kReady:
      Answer(request, 0);
      return WorkerIsReady();
    case KeeperCall::kResumed:
      failed_starts_ = 0;
      return Answer(request, 0);
    case KeeperCall::kUpgrade:
      return BeginUpgrade(&request);
    case KeeperCall::kServing:
      return PassOnServing(request);
    case KeeperCall::kLastUpgrade:
      return AnswerLastUpgrade(request);
    case KeeperCall::kEstablish:
    case KeeperCall::kForget:
    case KeeperCall::kEndConnection:
      break;
    default:
      return Answer(request, ENOSYS);
  }
  HeldMount* mount = Find(request.id);
  if (mount == nullptr) return Answer(request, ENOENT);
  if (request.call == KeeperCall::kEstablish) {
    mount->established = true;
    mount->flags |= request.flags & kHeldNoResend;
  } else if (request.call == KeeperCall::kEndConnection) {
    spdlog::error("keeper: mount {} fails: {}; its users get errors", mount->id, request.text);
    EndConnection(*mount, request.text, /*force=*/false);
  } else {
    mounts_.erase(request.id);
  }
  Answer(request, 0);
}

void Keeper::AnswerHello(const KeeperMessage& request) {
  KeeperMessage answer = AnswerTo(request);
  answer.number = restarts_;
  answer.descriptors.push_back(Duplicate(figures_));
  for (const UniqueFd& listener : listeners_) answer.descriptors.push_back(Duplicate(listener));
  SendMessage(worker_.socket.get(), answer).IgnoreError();
}

void Keeper::AnswerHeld(const KeeperMessage& request) {
  if (request.number >= mounts_.size()) return Answer(request, ENOENT);
  auto it = mounts_.begin();
  std::advance(it, static_cast<std::ptrdiff_t>(request.number));
  const HeldMount& mount = it->second;
  KeeperMessage answer = AnswerTo(request);
  answer.id = mount.id;
  answer.target = mount.target;
  answer.flags = mount.flags;
  if (UnmountOfTheDead(mount.id) != nullptr) answer.flags |= kHeldUnmounting;
  answer.text = mount.reason;
  for (const UniqueFd& fd : mount.descriptors) {
    if (fd.valid()) answer.descriptors.push_back(Duplicate(fd));
  }
  SendMessage(worker_.socket.get(), answer).IgnoreError();
}

void Keeper::PassOnServing(const KeeperMessage& request) {
  const absl::Status told = NotifyServiceManager(ServingState(request.number == 1, request.text));
  if (!told.ok()) spdlog::warn("keeper: {}", told.ToString());
  Answer(request, 0);
}

void Keeper::AnswerLastUpgrade(const KeeperMessage& request) {
  KeeperMessage answer = AnswerTo(request);
  answer.text = last_upgrade_;
  SendMessage(worker_.socket.get(), answer).IgnoreError();
}

// mount(2) looks the target up, which may wait for a file system that does not answer.
void Keeper::StartMount(KeeperMessage request) {
  if (Find(request.id) != nullptr) return Answer(request, EEXIST);
  if (request.descriptors.size() != HeldMount::kFuse) return Answer(request, EINVAL);
  absl::StatusOr<UniqueFd> fuse = OpenFuse();
  if (!fuse.ok()) return Answer(request, ExitCodeOf(fuse.status()));
  FuseMountOptions options;
  options.target = request.target;
  options.mount_id = request.id;
  options.read_only = (request.flags & kHeldReadOnly) != 0;
  const absl::StatusOr<pid_t> child = RunInChild([&] {
    const absl::Status mounted = MountFuse(options, *fuse);
    return mounted.ok() ? 0 : ExitCodeOf(mounted);
  });
  if (!child.ok()) return Answer(request, EAGAIN);
  request.descriptors.push_back(*std::move(fuse));
  children_[*child] = {std::move(request), true, generation_};
}

// umount(2) may write out mapped pages, for which it needs the worker.
void Keeper::StartUnmount(KeeperMessage request) {
  const HeldMount* mount = Find(request.id);
  if (mount == nullptr) return Answer(request, ENOENT);
  if (mount->Has(kHeldUnmounted)) return Answer(request, 0);
  Pending* under_way = UnmountOfTheDead(request.id);
  if (under_way != nullptr && under_way->request.number == request.number) {
    *under_way = {std::move(request), true, generation_};
    return;
  }
  const std::string target = mount->target;
  const bool detach = request.number == static_cast<uint64_t>(UnmountMode::kDetached);
  const absl::StatusOr<pid_t> child = RunInChild([&] {
    const absl::Status unmounted = detach ? DetachFuse(target) : UnmountFuse(target);
    return unmounted.ok() ? 0 : ExitCodeOf(unmounted);
  });
  if (!child.ok()) return Answer(request, EAGAIN);
  children_[*child] = {std::move(request), true, generation_};
}

void Keeper::ChildEnded(Pending pending, int exit_code) {
  KeeperMessage& request = pending.request;
  const bool asked_by_this_worker =
      pending.answer && pending.worker_generation == generation_ && worker_.socket.valid();
  if (request.call == KeeperCall::kUnmount && exit_code == 0) {
    if (HeldMount* mount = Find(request.id)) {
      mount->flags |= kHeldUnmounted;
      mount->descriptors[HeldMount::kFuse].Reset();
    }
  }
  if (request.call != KeeperCall::kMount || exit_code != 0) {
    if (asked_by_this_worker) Answer(request, exit_code);
    return;
  }
  HeldMount mount;
  mount.id = request.id;
  mount.target = request.target;
  mount.flags = request.flags & kHeldReadOnly;
  for (size_t i = 0; i < request.descriptors.size(); ++i) {
    mount.descriptors[i] = std::move(request.descriptors[i]);
  }
  if (!asked_by_this_worker) {
    return EndConnection(mount, "its worker died while it was made", /*force=*/true);
  }
  KeeperMessage answer = AnswerTo(request);
  answer.descriptors.push_back(Duplicate(mount.descriptors[HeldMount::kFuse]));
  mounts_.emplace(mount.id, std::move(mount));
  SendMessage(worker_.socket.get(), answer).IgnoreError();
}

// The mount point stays until it is unmounted, so that its users get errors and not what lies below
// it; that of a mount that was never finished goes away.
void Keeper::EndConnection(HeldMount& mount, const std::string& why, bool force) {
  const std::string target = mount.target;
  const bool stays = mount.established;
  mount.flags |= kHeldFailed;
  mount.reason = why;
  // The connection ends with its last descriptor: ours, once the worker's are closed.
  mount.descriptors[HeldMount::kFuse].Reset();
  if (mount.Has(kHeldUnmounted) || !force) return;
  const absl::StatusOr<pid_t> child = RunInChild([&] {
    const absl::Status ended = stays ? AbortFuse(target) : DetachFuse(target);
    return ended.ok() ? 0 : ExitCodeOf(ended);
  });
  if (!child.ok()) return;
  Pending pending;
  pending.request.call = KeeperCall::kEndConnection;
  children_[*child] = std::move(pending);
}

}  // namespace pbkfs
