// One mount with everything that serves it: the image, the overlay, the FUSE session, the mount
// point, the probe. Objects are built in that order and torn down in reverse; what this mount
// created (target, new diff) is removed again when building fails.
//
// A mount outlives the process where there is a keeper: Resume builds the objects anew over what
// the keeper held and the registry says.
//
// The manager makes sure that only one of Create and Unmount runs for a mount at a time. Everything
// else may be called from any thread at any time.
#ifndef PBKFS_SERVICE_LIVE_MOUNT_H_
#define PBKFS_SERVICE_LIVE_MOUNT_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fs/base/io.h"
#include "fs/base/mutex.h"
#include "fs/image/image.h"
#include "fs/overlay/overlay.h"
#include "fs/session/fuse_session.h"
#include "fs/session/session_memory.h"
#include "pbkfs/v1/mount.pb.h"
#include "pbkfs/v1/state.pb.h"
#include "service/image_registry.h"
#include "service/keeper/mount_keeper.h"
#include "service/mount_plan.h"
#include "service/mount_probe.h"
#include "service/mount_registry.h"

namespace pbkfs {

// The figures of one mount at one moment.
struct MountFigures {
  IoSnapshot io;
  PendingFigures pending;
  std::optional<DiffFigures> diff;  // Nothing where the diff's file system does not answer.
  FuseFigures fuse;
};

struct UnmountOptions {
  absl::Duration wait;                                     // For open files to be closed.
  std::function<bool()> cancelled = [] { return false; };  // Whether to stop waiting.
  bool force = false;                                      // Then detach all the same.
  bool delete_diff = false;
  bool keep_record = false;  // The next daemon makes the mount again.
};

// What every mount uses; all outlive the mounts.
struct MountEnvironment {
  Io& io;
  MountKeeper& keeper;
  const MountRegistry& registry;
};

// Deletes a diff that may be gone, also where an earlier attempt was interrupted at any step.
absl::Status RemoveDiff(Io& io, const std::string& diff);
// Undoes the diff of the mount that `begun` is the record of, unless somebody has used it since. An
// empty directory that was there before is there again.
void RemoveMadeDiff(Io& io, const v1::MountRecord& begun);

struct UnmountResult {
  bool diff_deleted = false;
};

class LiveMount {
 public:
  // Mounts what `plan` says.
  static absl::StatusOr<std::shared_ptr<LiveMount>> Create(MountPlan plan,
                                                           const MountEnvironment& environment);
  // Goes on with a mount whose process died. Where that is not possible its users get errors, and
  // the mount that is returned is FAILED and can only be unmounted. UNIMPLEMENTED: another version
  // of this program could go on with it, and nothing was changed.
  static absl::StatusOr<std::shared_ptr<LiveMount>> Resume(const v1::MountRecord& record,
                                                           HeldMount held, ImageRegistry& images,
                                                           const MountEnvironment& environment);
  // Unmounted before.
  ~LiveMount();

  const std::string& id() const { return plan_.request.mount_id(); }
  const v1::MountRequest& request() const { return plan_.request; }
  const MountPaths& paths() const { return plan_.where.paths; }
  uid_t owner_uid() const { return plan_.mount.owner().uid(); }

  // With the state as it is now.
  v1::Mount Describe() const;
  // Nothing while the mount is being torn down.
  std::optional<MountFigures> Figures() const;
  // By op. Unlike Figures it stays when the session has ended, since totals over all mounts must
  // not go back.
  std::map<std::string, FuseFigures::Latency> FuseLatency() const;
  // Whether the mount could be read within the last seconds.
  bool Healthy() const;
  // Seconds that Create took.
  absl::Duration build_time() const { return build_time_; }
  // A worker that died had begun to unmount it: Unmount does the rest.
  bool unmount_was_begun() const { return half_unmounted_ || unmounting_; }

  // The kernel's version of the FUSE protocol, "7.45".
  const std::string& fuse_protocol() const { return fuse_protocol_; }

  // Whether an Unmount that failed has left the mount as it was.
  bool still_mounted() const;

  // Whether the target still shows the mount, in this mount namespace.
  bool attached() const;

  // A mount that went on without the locks of its catalog gets them later.
  const MountPlan& plan() const { return plan_; }
  void SetCatalogLock(std::unique_ptr<CatalogLock> lock);

  // FAILED_PRECONDITION (TARGET_BUSY), the mount stays, while files are open; any other error means
  // that it is gone and what was not as it should be.
  absl::StatusOr<UnmountResult> Unmount(const UnmountOptions& options);

 private:
  LiveMount(MountPlan plan, const MountEnvironment& environment);

  absl::Status Build();
  absl::Status OpenDiff();
  absl::Status MountTarget();
  absl::Status TakeOver(HeldMount held);
  OverlayOptions OptionsOfOverlay();
  SessionOptions OptionsOfSession() const;
  bool CanResend() const;
  void FindProtection();
  v1::MountRecord Record() const;
  v1::MountRecord RecordOfBegun() const;
  void KeepSettingsOf(const DiffStore& diff);
  absl::Status PrepareClone(Overlay& overlay);
  absl::Status DropRecoveryThatIsDone(Overlay& overlay);
  absl::Status MoveToTarget(Overlay& overlay);
  std::vector<std::string> TargetNames() const;
  absl::Status MakeTarget();
  // Undoes a Build that failed.
  void Abandon();

  absl::Status EndSession();
  // What is to become of the mount, as far as a worker that finishes the Unmount has to know it.
  v1::Unmounting Intention(const UnmountOptions& options) const;
  void SaveIntention(const v1::Unmounting& intention);
  // Nobody goes on with the mount after this.
  absl::Status Settle(const v1::Unmounting& intention, bool delete_diff);
  absl::Status DetachTarget(const UnmountOptions& options);
  // After the target was detached: until nobody uses the mount.
  absl::Status WaitForSession(const UnmountOptions& options, absl::Time deadline);
  void RemoveTarget();
  // Gives back the locks, so that the backups may be deleted.
  void ReleaseCatalog();
  void StartProbe();
  void StopProbe();
  void SetState(v1::MountState state, std::string reason);

  MountPlan plan_;
  const MountEnvironment environment_;
  const uint64_t maker_ = RandomNonce();  // Of a diff that is made for this mount.
  absl::Duration build_time_;
  bool made_target_ = false;
  bool opened_diff_ = false;
  bool mounted_ = false;
  bool half_unmounted_ = false;  // The kernel's side is gone.
  bool unmounting_ = false;      // The keeper is still at it.
  v1::Unmounting intention_;     // As the record has it.
  bool failed_ = false;          // It could not go on; there are no objects.
  std::string failure_;          // Why.
  std::vector<UniqueFd> held_;   // What the keeper gets of the diff, until it has it.
  std::string fuse_protocol_;
  MountInfoEntry mount_info_;  // As it was right after mount(2).

  // Outlives the overlay and the session, which count in it.
  std::unique_ptr<SessionMemory> memory_;

  // Held shared by whoever looks at the figures, exclusively while the objects come and go.
  mutable SharedMutex objects_mutex_;
  std::unique_ptr<Overlay> overlay_ ABSL_GUARDED_BY(objects_mutex_);
  std::unique_ptr<FuseSession> session_ ABSL_GUARDED_BY(objects_mutex_);
  // Of the session that has ended.
  std::map<std::string, FuseFigures::Latency> last_latency_ ABSL_GUARDED_BY(objects_mutex_);

  mutable Mutex state_mutex_;
  v1::MountState state_ ABSL_GUARDED_BY(state_mutex_) = v1::MOUNT_STATE_CREATING;
  std::string state_reason_ ABSL_GUARDED_BY(state_mutex_);
  std::unique_ptr<CatalogLock> catalog_lock_ ABSL_GUARDED_BY(state_mutex_);
  // Stopped before what it probes goes; there from the start, where the mount could go on.
  std::unique_ptr<MountProbe> probe_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_LIVE_MOUNT_H_
