// The configuration file: a v1::DaemonConfig in protobuf's text format. What is wrong in it is told
// as compilers do, "FILE:LINE:COLUMN: field: what would be right", one line a problem, and never
// with the text of a value that could be a secret.
#ifndef PBKFS_SERVICE_CONFIG_FILE_H_
#define PBKFS_SERVICE_CONFIG_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pbkfs/v1/config.pb.h"

namespace pbkfs {

// INVALID_ARGUMENT (INVALID_FIELD). `name` is that of the file, for messages.
absl::StatusOr<v1::DaemonConfig> ParseConfig(absl::string_view text, absl::string_view name);

// Also fails where the file can't be read or is too long.
absl::StatusOr<v1::DaemonConfig> ReadConfigFile(const std::string& path);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_CONFIG_FILE_H_
