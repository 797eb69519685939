// The command line of pbkfsd.
#ifndef PBKFS_SERVICE_OPTIONS_H_
#define PBKFS_SERVICE_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/logging.h"

namespace pbkfs {

struct DaemonOptions {
  std::vector<std::string> listen_paths;  // Paths of the unix sockets.
  std::string metrics_address;            // HOST:PORT; "" = no metrics.
  bool metrics_required = false;          // The address was asked for, so not getting it is fatal.
  std::string state_directory;
  std::vector<std::string> allowed_roots;
  absl::Duration stats_interval = absl::Seconds(60);  // 0 = off.
  std::string log_level = "info";
  LogFormat log_format = LogFormat::kText;
  bool no_keeper = false;
  int restart_limit = 100;  // Deaths of workers within a minute before mounts end with errors.
  int worker_socket = -1;   // This process is a worker, and its keeper is at this descriptor.
  int keeper_state = -1;    // This process was another program's keeper: what it left is here.
  std::string handover_versions;  // Only say whether this program can take over such a state.
  bool show_help = false;
  bool show_version = false;
};

// `arguments` without the program's name. INVALID_ARGUMENT tells what is wrong and what would be
// right.
absl::StatusOr<DaemonOptions> ParseDaemonOptions(const std::vector<std::string>& arguments);

absl::string_view DaemonHelp();

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_OPTIONS_H_
