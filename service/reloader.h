// Reads the configuration file again and takes over what can change while mounts live. Safe from
// any thread; one reload at a time.
#ifndef PBKFS_SERVICE_RELOADER_H_
#define PBKFS_SERVICE_RELOADER_H_

#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "fs/base/mutex.h"
#include "pbkfs/v1/daemon.pb.h"
#include "service/alarm.h"
#include "service/config_holder.h"
#include "service/config_memory.h"
#include "service/configured_mounts.h"
#include "service/metrics/stats_logger.h"
#include "service/options.h"
#include "service/path_policy.h"

namespace pbkfs {

// What a reload of `next` does to what is in force.
struct ConfigChange {
  v1::DaemonConfig config;           // To be in force.
  std::vector<std::string> changed;  // As ReloadResponse has them.
  std::vector<std::string> needs_restart;
};
ConfigChange CompareConfigs(const v1::DaemonConfig& current, const v1::DaemonConfig& next);

class Reloader {
 public:
  // All but `memory`, which may be null, are there as long as the reloader.
  Reloader(const DaemonOptions& options, const ConfigMemory* memory, ConfigHolder& config,
           PathPolicy& policy, StatsLogger& stats_logger, ConfiguredMounts& mounts)
      : options_(options),
        memory_(memory),
        config_(config),
        policy_(policy),
        stats_logger_(stats_logger),
        mounts_(mounts),
        thread_([this] { Run(); }) {}
  ~Reloader();
  // Waits for a reload that runs, and begins none any more. From the thread that owns the object.
  void Stop();

  // What reads certificates again; an error of it fails the reload. Before the first reload.
  void SetTls(std::function<absl::Status(const v1::DaemonConfig& next)> tls) {
    tls_ = std::move(tls);
  }

  // FAILED_PRECONDITION (NO_CONFIG_FILE); INVALID_ARGUMENT (INVALID_FIELD), and nothing is changed.
  absl::StatusOr<v1::ReloadResponse> Reload() ABSL_LOCKS_EXCLUDED(mutex_);
  // The same in the background, for SIGHUP; the log tells what came of it.
  void RequestReload();

 private:
  void Run();

  const DaemonOptions& options_;
  const ConfigMemory* const memory_;
  ConfigHolder& config_;
  PathPolicy& policy_;
  StatsLogger& stats_logger_;
  ConfiguredMounts& mounts_;
  std::function<absl::Status(const v1::DaemonConfig&)> tls_;
  Mutex mutex_;  // Held during a reload.

  Alarm requests_;
  std::thread thread_;  // The last: it uses the others.
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_RELOADER_H_
