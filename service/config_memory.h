// The configuration in force, in a memfd that keeper and workers share: a worker that takes over
// gets what the last one had taken over, whatever the file on the disk holds by then, and a
// configuration with secrets is never written anywhere.
//
// One writer at a time; a reader finds the last configuration that was written whole, even where
// the writer was killed in between.
#ifndef PBKFS_SERVICE_CONFIG_MEMORY_H_
#define PBKFS_SERVICE_CONFIG_MEMORY_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/unique_fd.h"
#include "pbkfs/v1/config.pb.h"

namespace pbkfs {

class ConfigMemory {
 public:
  // The descriptor is inherited by programs that this process executes.
  static absl::StatusOr<ConfigMemory> Create(const v1::DaemonConfig& config);
  // What was inherited.
  static ConfigMemory Adopt(int descriptor) { return ConfigMemory(UniqueFd(descriptor)); }
  // From now on programs that are executed do not inherit it.
  void KeepPrivate() const;

  absl::StatusOr<v1::DaemonConfig> Read() const;
  absl::Status Write(const v1::DaemonConfig& config) const;

  int descriptor() const { return fd_.get(); }

 private:
  explicit ConfigMemory(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_CONFIG_MEMORY_H_
