// From the file and the command line to the configuration that is in force.
//
// The process that is started reads the file once. What it found in force lies in a memfd
// (service/config_memory.h), from which workers take it: a worker that dies while somebody edits
// the file changes nothing.
#ifndef PBKFS_SERVICE_CONFIGURATION_H_
#define PBKFS_SERVICE_CONFIGURATION_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pbkfs/v1/config.pb.h"
#include "service/keeper/unix_socket.h"
#include "service/options.h"

namespace pbkfs {

// What `file` and the command line say together: single values of the command line win, lists add
// up. Without defaults.
v1::DaemonConfig Merge(const v1::DaemonConfig& file, const v1::DaemonConfig& command_line);

// Reads the file, if the command line names one. INVALID_ARGUMENT (INVALID_FIELD) tells file, line,
// column and field of what is wrong.
absl::StatusOr<v1::DaemonConfig> LoadConfiguration(const DaemonOptions& options);

// The paths of the unix sockets among the listeners.
std::vector<std::string> SocketPaths(const v1::DaemonConfig& config);

// Where to listen, in the order of the listeners.
std::vector<ListenAddress> ListenAddresses(const v1::DaemonConfig& config);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_CONFIGURATION_H_
