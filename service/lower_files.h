// Small files of an image for the control plane, by path.
#ifndef PBKFS_SERVICE_LOWER_FILES_H_
#define PBKFS_SERVICE_LOWER_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/base/lower_tree.h"
#include "service/server_config.h"

namespace pbkfs {

// NOT_FOUND where there is no regular file at `path` (relative to the root).
absl::StatusOr<std::string> ReadLowerFile(const LowerTree& tree, absl::string_view path,
                                          int64_t limit);

// The configuration files of an image. `tree` must outlive the source.
ConfigSource ConfigOf(const LowerTree& tree);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_LOWER_FILES_H_
