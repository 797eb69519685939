// What the daemon tells of itself: GetStatus, and the text of DebugDump. Knows nothing of gRPC.
#ifndef PBKFS_SERVICE_DAEMON_STATUS_H_
#define PBKFS_SERVICE_DAEMON_STATUS_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "pbkfs/v1/config.pb.h"
#include "pbkfs/v1/daemon.pb.h"
#include "service/mount_manager.h"
#include "service/recent_log.h"

namespace pbkfs {

// What does not change while a worker lives.
struct DaemonFacts {
  absl::Time start_time;
  std::string build;
  std::vector<std::string> listen_addresses;
  std::string metrics_address;  // Where it is served; "" = nowhere.
  std::string state_directory;
  std::string config_file;  // "" = none.
};

// `config` is the one in force.
v1::DaemonStatus DescribeDaemon(const DaemonFacts& facts, const v1::DaemonConfig& config,
                                const MountManager& manager);

// For people who look for a fault: what `status` says, the process, each mount, requests in flight,
// caches, and the newest `log_lines` warnings and errors. No settings of servers, no contents.
std::string DebugText(const v1::DaemonStatus& status, const MountManager& manager,
                      const RecentLog& log, size_t log_lines);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_DAEMON_STATUS_H_
