// The configuration in force: file and command line, with the defaults filled in
// (service/configuration.h). A reload replaces it as a whole; whoever needs a part of it takes a
// snapshot when he needs it, and does not keep it. Safe from any thread.
#ifndef PBKFS_SERVICE_CONFIG_HOLDER_H_
#define PBKFS_SERVICE_CONFIG_HOLDER_H_

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "fs/base/mutex.h"
#include "pbkfs/v1/config.pb.h"

namespace pbkfs {

class ConfigHolder {
 public:
  explicit ConfigHolder(v1::DaemonConfig config) { Replace(std::move(config)); }

  std::shared_ptr<const v1::DaemonConfig> Get() const {
    MutexLock lock(&mutex_);
    return config_;
  }

  void Replace(v1::DaemonConfig config) {
    auto next = std::make_shared<const v1::DaemonConfig>(std::move(config));
    MutexLock lock(&mutex_);
    config_ = std::move(next);
  }

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const v1::DaemonConfig> config_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_CONFIG_HOLDER_H_
