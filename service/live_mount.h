// One mount with everything that serves it: the image, the overlay, the FUSE session, the mount
// point, and a thread that proves every two seconds that the mount can still be read. Objects are
// built in that order and torn down in reverse; what this mount created (target, new diff) is
// removed again when building fails.
//
// The manager makes sure that only one of Create and Unmount runs for a mount at a time. Everything
// else may be called from any thread at any time.
#ifndef PBKFS_SERVICE_LIVE_MOUNT_H_
#define PBKFS_SERVICE_LIVE_MOUNT_H_

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fs/base/io.h"
#include "fs/base/mutex.h"
#include "fs/image/image.h"
#include "fs/overlay/overlay.h"
#include "fs/session/fuse_session.h"
#include "pbkfs/v1/mount.pb.h"
#include "service/mount_plan.h"

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
};

struct UnmountResult {
  bool diff_deleted = false;
  FuseFigures fuse;  // The last figures: totals over all mounts must not go back.
};

class LiveMount {
 public:
  // Mounts what `plan` says. `io` outlives the mount.
  static absl::StatusOr<std::shared_ptr<LiveMount>> Create(MountPlan plan, Io& io);
  // Unmounted before.
  ~LiveMount();

  const std::string& id() const { return plan_.request.mount_id(); }
  const v1::MountRequest& request() const { return plan_.request; }
  const MountPaths& paths() const { return plan_.where.paths; }

  // With the state as it is now.
  v1::Mount Describe() const;
  // Nothing while the mount is being torn down.
  std::optional<MountFigures> Figures() const;
  // Whether the mount could be read within the last seconds.
  bool Healthy() const;
  // Seconds that Create took.
  absl::Duration build_time() const { return build_time_; }

  // FAILED_PRECONDITION (TARGET_BUSY), the mount stays, while files are open; any other error means
  // that it is gone and what was not as it should be.
  absl::StatusOr<UnmountResult> Unmount(const UnmountOptions& options);

 private:
  LiveMount(MountPlan plan, Io& io);

  absl::Status Build();
  absl::Status OpenDiff();
  absl::Status PrepareClone(Overlay& overlay);
  absl::Status DropRecoveryThatIsDone(Overlay& overlay);
  absl::Status MakeTarget();
  // Undoes a Build that failed.
  void Abandon();

  absl::Status DetachTarget(const UnmountOptions& options);
  // After the target was detached: until nobody uses the mount.
  absl::Status WaitForSession(const UnmountOptions& options, absl::Time deadline);
  void RemoveTarget();
  // Gives back the locks, so that the backups may be deleted.
  void ReleaseCatalog();
  void StartProbe();
  void StopProbe();
  void Probe(Overlay* overlay);
  absl::Status CheckServable(Overlay* overlay) const;
  void RecordProbe(const absl::Status& status);
  void SetState(v1::MountState state, std::string reason);

  MountPlan plan_;
  Io& io_;
  absl::Duration build_time_;
  bool made_target_ = false;
  bool opened_diff_ = false;
  bool mounted_ = false;
  MountInfoEntry mount_info_;  // As it was right after mount(2).

  // Held shared by whoever looks at the figures, exclusively while the objects come and go.
  mutable SharedMutex objects_mutex_;
  std::unique_ptr<Overlay> overlay_ ABSL_GUARDED_BY(objects_mutex_);
  std::unique_ptr<FuseSession> session_ ABSL_GUARDED_BY(objects_mutex_);

  mutable Mutex state_mutex_;
  v1::MountState state_ ABSL_GUARDED_BY(state_mutex_) = v1::MOUNT_STATE_CREATING;
  std::string state_reason_ ABSL_GUARDED_BY(state_mutex_);
  bool probe_ok_ ABSL_GUARDED_BY(state_mutex_) = true;
  std::chrono::steady_clock::time_point probe_time_ ABSL_GUARDED_BY(state_mutex_);
  bool stop_probe_ ABSL_GUARDED_BY(state_mutex_) = false;
  std::unique_ptr<CatalogLock> catalog_lock_ ABSL_GUARDED_BY(state_mutex_);
  CondVar probe_wakeup_;
  std::thread probe_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_LIVE_MOUNT_H_
