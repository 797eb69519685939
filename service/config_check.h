// What is wrong with a configuration: every value that could be refused later is refused here, with
// the name of its field. Looks at the message alone, never at the disk.
#ifndef PBKFS_SERVICE_CONFIG_CHECK_H_
#define PBKFS_SERVICE_CONFIG_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "pbkfs/v1/config.pb.h"

namespace pbkfs {

struct ConfigProblem {
  std::string field;  // "mounts[2].target"
  std::string message;
};
std::vector<ConfigProblem> CheckConfig(const v1::DaemonConfig& config);

// Single values, for the command line too. The message says what would be right, and does not begin
// with the name of the field.
absl::Status CheckListenAddress(absl::string_view address);
absl::Status CheckMetricsAddress(absl::string_view address);
absl::Status CheckHostPort(absl::string_view address);
absl::Status CheckDirectory(absl::string_view path);
absl::Status CheckLogFormat(absl::string_view format);

// The path of "unix:PATH" and "unix://PATH"; "" of HOST:PORT.
std::string SocketPath(absl::string_view address);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_CONFIG_CHECK_H_
