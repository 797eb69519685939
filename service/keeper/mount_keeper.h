// The worker's side of the keeper: who mounts, unmounts and holds what outlives the worker. Safe
// from any thread; calls that wait for the kernel do not hold up others.
#ifndef PBKFS_SERVICE_KEEPER_MOUNT_KEEPER_H_
#define PBKFS_SERVICE_KEEPER_MOUNT_KEEPER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/mutex.h"
#include "fs/base/unique_fd.h"
#include "service/keeper/held_mount.h"
#include "service/keeper/mounter.h"
#include "service/keeper/protocol.h"

namespace pbkfs {

class MountKeeper {
 public:
  virtual ~MountKeeper() = default;

  // Whether mounts outlive this process.
  virtual bool outlives_worker() const = 0;
  // Worker processes that died before this one.
  virtual uint64_t restarts() const = 0;

  // Mounts, and returns the FUSE descriptor. Borrows the descriptors, those of HeldMount but the
  // last one.
  virtual absl::StatusOr<UniqueFd> Mount(const FuseMountOptions& options,
                                         const std::vector<int>& descriptors) = 0;
  // The mount is complete: it outlives the worker unless the kernel `can_resend` nothing.
  virtual absl::Status Establish(const std::string& id, bool can_resend) = 0;
  // EBUSY where files are open (of kPlain).
  virtual absl::Status Unmount(const std::string& id, const std::string& target,
                               UnmountMode mode) = 0;
  // Nothing is left to do for a mount that was unmounted.
  virtual absl::Status Forget(const std::string& id) = 0;
  // How far the daemon is, for the service manager: `complete` = every mount of the configuration
  // is there; `text` for people.
  virtual absl::Status Serving(bool complete, const std::string& text) = 0;
  // Users of the mount get errors.
  virtual absl::Status EndConnection(const std::string& id, const std::string& why) = 0;
};

// Without a keeper: this process mounts by itself.
std::unique_ptr<MountKeeper> MakeOwnKeeper();

// Over the socket that the keeper gave this process.
class KeeperClient final : public MountKeeper {
 public:
  static absl::StatusOr<std::unique_ptr<KeeperClient>> Connect(UniqueFd socket);
  ~KeeperClient() override;

  // The sockets to accept connections from.
  std::vector<UniqueFd> TakeListeners() { return std::move(listeners_); }
  // Memory for what is counted, empty for the first worker.
  const UniqueFd& figures() const { return figures_; }
  // The mounts that are held, with the descriptors as the keeper has them.
  absl::StatusOr<std::vector<HeldMount>> Held();
  absl::Status Resumed();
  absl::Status Ready();
  // Goes over to the program on the disk; when this returns OK, this process is about to be killed.
  // FAILED_PRECONDITION (UPGRADE_REFUSED) where that program can't take over, ABORTED
  // (OPERATION_PENDING) while another upgrade or a stop is under way.
  absl::Status Upgrade();
  // What became of the last upgrade that was asked for, for people; empty = nobody asked.
  absl::StatusOr<std::string> LastUpgrade();

  bool outlives_worker() const override { return true; }
  uint64_t restarts() const override { return restarts_; }
  absl::StatusOr<UniqueFd> Mount(const FuseMountOptions& options,
                                 const std::vector<int>& descriptors) override;
  absl::Status Establish(const std::string& id, bool can_resend) override;
  absl::Status Unmount(const std::string& id, const std::string& target, UnmountMode mode) override;
  absl::Status Forget(const std::string& id) override;
  absl::Status Serving(bool complete, const std::string& text) override;
  absl::Status EndConnection(const std::string& id, const std::string& why) override;

 private:
  explicit KeeperClient(UniqueFd socket) : socket_(std::move(socket)) {}
  absl::StatusOr<KeeperMessage> Call(KeeperMessage request) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status CallFor(KeeperCall call, const std::string& id, absl::string_view what);
  void ReceiveAnswers() ABSL_LOCKS_EXCLUDED(mutex_);

  const UniqueFd socket_;
  std::vector<UniqueFd> listeners_;
  UniqueFd figures_;
  uint64_t restarts_ = 0;
  Mutex mutex_;
  CondVar answered_;
  uint32_t next_tag_ ABSL_GUARDED_BY(mutex_) = 1;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<uint32_t, KeeperMessage> answers_ ABSL_GUARDED_BY(mutex_);
  std::thread receiver_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_KEEPER_MOUNT_KEEPER_H_
