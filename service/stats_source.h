// All figures of the daemon at one moment, as the API's message. Stats, WatchStats, /metrics, the
// status page and the log all show what is sampled here, so they can't disagree.
#ifndef PBKFS_SERVICE_STATS_SOURCE_H_
#define PBKFS_SERVICE_STATS_SOURCE_H_

#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "fs/base/mutex.h"
#include "fs/base/unique_fd.h"
#include "pbkfs/v1/mount.pb.h"
#include "service/alarm.h"
#include "service/carried_figures.h"
#include "service/metrics/histogram.h"
#include "service/mount_manager.h"

namespace pbkfs {

// Safe from any thread. Reads snapshots of the rooms' own counters, and asks the file system of
// each diff how full it is.
class StatsSource {
 public:
  // Both outlive the source. `memory`: where the counters outlive the worker; none without a
  // keeper.
  StatsSource(const MountManager& manager, const RpcFigures& rpc, const UniqueFd& memory);
  ~StatsSource();

  // Of one mount, or of all where `mount_id` is empty. NOT_FOUND (MOUNT_NOT_FOUND) for an unknown
  // id.
  absl::StatusOr<v1::StatsResponse> Sample(const std::string& mount_id) const;
  // What was counted until now outlives the worker.
  void Keep() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  MountsSnapshot FillCounters(v1::DaemonStats* daemon) const ABSL_LOCKS_EXCLUDED(mutex_);
  void FillDaemon(const MountsSnapshot& mounts, v1::DaemonStats* daemon) const;

  const MountManager& manager_;
  const RpcFigures& rpc_;
  mutable Mutex mutex_;
  mutable CarriedFigures carried_ ABSL_GUARDED_BY(mutex_);
  Alarm next_;
  std::thread keeper_;  // The last: it uses the others.
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_STATS_SOURCE_H_
