// The command line of pbkfsd.
#ifndef PBKFS_SERVICE_OPTIONS_H_
#define PBKFS_SERVICE_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "pbkfs/v1/config.pb.h"

namespace pbkfs {

struct DaemonOptions {
  v1::DaemonConfig given;   // What the command line says of what a file could say.
  std::string config_file;  // Absolute; "" = none.
  bool no_keeper = false;
  absl::Duration stop_timeout = absl::InfiniteDuration();  // Until mounts in use are detached.
  int restart_limit = 100;  // Deaths of workers within a minute before mounts end with errors.
  int worker_socket = -1;   // This process is a worker, and its keeper is at this descriptor.
  int config_memory = -1;   // The configuration that is in force (service/config_memory.h).
  int keeper_state = -1;    // This process was another program's keeper: what it left is here.
  std::string handover_versions;  // Only say whether this program can take over such a state.
  bool show_help = false;
  bool show_version = false;
};

// `arguments` without the program's name. INVALID_ARGUMENT tells what is wrong and what would be
// right.
absl::StatusOr<DaemonOptions> ParseDaemonOptions(const std::vector<std::string>& arguments);

// The hidden flag of the descriptor of ConfigMemory.
inline constexpr char kConfigMemoryFlag[] = "--config-memory=";

absl::string_view DaemonHelp();

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_OPTIONS_H_
