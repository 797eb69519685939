// The mounts of the daemon, by id. Operations on one mount exclude each other: a second one gets
// OPERATION_PENDING instead of waiting. Different mounts are worked on in parallel; the manager's
// lock is never held while a file system is touched.
//
// Speaks the API's messages and absl::Status; knows nothing of gRPC. Safe from any thread.
#ifndef PBKFS_SERVICE_MOUNT_MANAGER_H_
#define PBKFS_SERVICE_MOUNT_MANAGER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fs/base/io.h"
#include "fs/base/mutex.h"
#include "pbkfs/v1/mount.pb.h"
#include "service/access_policy.h"
#include "service/catalog_lock.h"
#include "service/config_holder.h"
#include "service/image_registry.h"
#include "service/live_mount.h"
#include "service/metrics/histogram.h"
#include "service/path_policy.h"

namespace pbkfs {

// NOT_FOUND (MOUNT_NOT_FOUND).
absl::Status UnknownMount(const std::string& mount_id);

// What there is at one moment, for figures that add up.
struct MountsSnapshot {
  std::vector<std::shared_ptr<const LiveMount>> live;  // Sorted by id.
  size_t creating = 0;                                 // Those that are made now.
  // FUSE latency of mounts that are gone, by op: sums over all mounts must not go back.
  std::map<std::string, FuseFigures::Latency> retired_latency;
  Histogram mount_durations;  // How long mounts took to make.
};

class MountManager {
 public:
  // All outlive the manager.
  MountManager(const ConfigHolder& config, const PathPolicy& policy, ImageRegistry& images,
               CatalogLocker& locker, const MountEnvironment& environment);
  // Waits for what StartRestoring began.
  ~MountManager();

  // Goes on with the mounts that the keeper holds, before anybody calls. UNIMPLEMENTED where
  // another version of this program is needed.
  absl::Status Resume(std::vector<HeldMount> held);
  // In the background: finishes what a worker that died had begun, makes the mounts again that
  // ended with the last daemon, and locks the catalogs of mounts that went on without locks.
  void StartRestoring();
  // Until that is done.
  void WaitForRestoring() ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes away the dead mount of a daemon that is gone, at `target`, if it is one of `mount_id`.
  void CleanTarget(const std::string& mount_id, const std::string& target);

  // The mount that is there now, or would be there. Here and below CALLER_NOT_ALLOWED where
  // `caller` may not have it. CANCELLED where `cancelled` says, before anything is mounted, that
  // nobody waits for the answer.
  absl::StatusOr<v1::Mount> Mount(
      const v1::MountRequest& request, const Caller& caller,
      const std::function<bool()>& cancelled = [] { return false; });
  // Waits for a busy mount only until `cancelled` says that nobody waits for the answer.
  absl::StatusOr<v1::UnmountResponse> Unmount(
      const v1::UnmountRequest& request, const Caller& caller,
      const std::function<bool()>& cancelled = [] { return false; });
  absl::StatusOr<v1::Mount> GetMount(const std::string& mount_id) const;
  // Those of the caller, sorted by id.
  v1::ListMountsResponse ListMounts(const Caller& caller) const;
  // OPERATION_PENDING where a mount of an earlier daemon is still to be made again with this diff.
  absl::Status CheckDiffNotAwaited(const std::string& diff) const ABSL_LOCKS_EXCLUDED(mutex_);
  // OK also where there is no such mount.
  absl::Status CheckOwns(const Caller& caller, const std::string& mount_id) const;
  // Takes the mounts of others out of `response`.
  void KeepOwned(const Caller& caller, v1::StatsResponse* response) const;

  // The mounts that are there, sorted by id: for health, metrics and the log.
  std::vector<std::shared_ptr<const LiveMount>> Mounts() const;
  // Null for an unknown id and while the mount is made.
  std::shared_ptr<const LiveMount> Find(const std::string& mount_id) const;
  MountsSnapshot Snapshot() const;
  ImageCacheFigures CacheFigures() const { return images_.Figures(); }
  absl::Duration Uptime() const { return absl::Now() - start_time_; }

  // Worker processes that died before this one.
  uint64_t WorkerRestarts() const { return environment_.keeper.restarts(); }
  // Whether mounts outlive this process, where the kernel can send requests again.
  bool has_keeper() const { return environment_.keeper.outlives_worker(); }

  // From now on Mount answers UNAVAILABLE (DRAINING).
  void StartDraining();
  bool draining() const;
  // Why the daemon is not ready, a line each: mounts are still to be made again, or it stops.
  std::vector<std::string> NotReady() const;
  // Unmounts everything. What is in use is named in the log from time to time, and waited for until
  // `hurry` says that it has to be detached. Passes over mounts that a call is at work on. False
  // where a mount is still there.
  bool UnmountAll(const std::function<bool()>& hurry);

 private:
  struct Slot {
    MountPaths paths;
    v1::MountRequest request;
    std::shared_ptr<LiveMount> mount;  // Null while it is made.
    bool pending = false;              // Somebody works on it.
  };

  // The mount that `request` (`original`, normalized) asks for already exists: it, or the error;
  // null where there is none.
  absl::StatusOr<std::shared_ptr<LiveMount>> FindExisting(const v1::MountRequest& original,
                                                          const v1::MountRequest& request) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckOthers(const v1::MountRequest& request, const MountPaths& paths,
                           const Caller& caller) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The id of the mount that an Unmount names; "" where there is none.
  absl::StatusOr<std::string> FindUnmountId(const v1::UnmountRequest& request) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whose mounts a request makes: `again` is that of one that an earlier daemon had.
  enum class Origin : uint8_t { kCaller, kAgain };
  absl::StatusOr<v1::Mount> MountFor(Origin origin, const v1::MountRequest& original,
                                     const Caller& caller, const std::function<bool()>& cancelled);
  // The checks of Mount, and with validate_only all that it does. Otherwise the plan holds locks.
  absl::StatusOr<MountPlan> MakePlan(Origin origin, const v1::MountRequest& request,
                                     const RequestPaths& where, const Caller& caller);
  absl::Status FillEarlier(Origin origin, MountPlan* plan) const;
  absl::StatusOr<v1::Mount> MakeMount(Origin origin, const v1::MountRequest& request,
                                      const RequestPaths& where, const Caller& caller,
                                      const std::function<bool()>& cancelled);
  // OPERATION_PENDING where a mount with this id, target or diff is still to be made again; "" =
  // whichever.
  absl::Status CheckNotAwaited(const std::string& mount_id, const std::string& target,
                               const std::string& diff) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // restoring.cc
  void ResumeOne(const v1::MountRecord& record, HeldMount held, absl::Status* status);
  void Restore(const std::vector<v1::MountRecord>& records);
  void RestoreOne(const v1::MountRecord& record);
  void LockCatalogs();
  std::map<std::string, std::shared_ptr<LiveMount>> SharedMounts() const;

  absl::StatusOr<v1::UnmountResponse> UnmountWith(const v1::UnmountRequest& request,
                                                  const Caller& caller, UnmountOptions options);
  // The record of a mount that an earlier daemon had and that could not be made again …
  std::optional<v1::MountRecord> FindRecord(const v1::UnmountRequest& request) const;
  // … is removed.
  absl::StatusOr<v1::UnmountResponse> Forget(const v1::UnmountRequest& request,
                                             const Caller& caller);
  void Retire(const LiveMount& mount);

  const ConfigHolder& config_;
  const PathPolicy& policy_;
  ImageRegistry& images_;
  CatalogLocker& locker_;
  const MountEnvironment environment_;
  const absl::Time start_time_;

  mutable Mutex mutex_;
  std::map<std::string, Slot> slots_ ABSL_GUARDED_BY(mutex_);
  // Mounts of an earlier daemon that are still to be made again, by id: nobody else works on them,
  // or on what is theirs, meanwhile.
  struct Awaited {
    std::string target;  // As it was given.
    std::string diff;    // Without symbolic links.
  };
  std::map<std::string, Awaited> awaited_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool restored_ ABSL_GUARDED_BY(mutex_) = false;  // What StartRestoring began is done.
  std::map<std::string, FuseFigures::Latency> retired_latency_ ABSL_GUARDED_BY(mutex_);
  Histogram mount_durations_ ABSL_GUARDED_BY(mutex_);
  std::thread restoring_;
  CondVar restoring_ended_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_MOUNT_MANAGER_H_
