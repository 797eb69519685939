// All figures of the daemon at one moment, as the API's message. Stats, WatchStats, /metrics, the
// status page and the log all show what is sampled here, so they can't disagree.
#ifndef PBKFS_SERVICE_STATS_SOURCE_H_
#define PBKFS_SERVICE_STATS_SOURCE_H_

#include <string>

#include "absl/status/statusor.h"
#include "pbkfs/v1/mount.pb.h"
#include "service/metrics/histogram.h"
#include "service/mount_manager.h"

namespace pbkfs {

// Safe from any thread. Reads snapshots of the rooms' own counters, and asks the file system of
// each diff how full it is.
class StatsSource {
 public:
  // Both outlive the source.
  StatsSource(const MountManager& manager, const RpcFigures& rpc) : manager_(manager), rpc_(rpc) {}

  // Of one mount, or of all where `mount_id` is empty. NOT_FOUND (MOUNT_NOT_FOUND) for an unknown
  // id.
  absl::StatusOr<v1::StatsResponse> Sample(const std::string& mount_id) const;

 private:
  void FillDaemon(const MountsSnapshot& mounts, v1::DaemonStats* daemon) const;

  const MountManager& manager_;
  const RpcFigures& rpc_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_STATS_SOURCE_H_
