// What the daemon shows to the outside: the API, the metrics, the probes, the log of figures, and
// what they share.
#ifndef PBKFS_SERVICE_FRONT_H_
#define PBKFS_SERVICE_FRONT_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "fs/base/unique_fd.h"
#include "grpcpp/server.h"
#include "service/acceptor.h"
#include "service/alarm.h"
#include "service/api_server.h"
#include "service/call_gate.h"
#include "service/catalog_service.h"
#include "service/config_holder.h"
#include "service/config_memory.h"
#include "service/configured_mounts.h"
#include "service/daemon_service.h"
#include "service/diff_service.h"
#include "service/health_service.h"
#include "service/image_registry.h"
#include "service/keeper/mount_keeper.h"
#include "service/metrics/histogram.h"
#include "service/metrics/metrics_server.h"
#include "service/metrics/stats_logger.h"
#include "service/mount_manager.h"
#include "service/mount_service.h"
#include "service/options.h"
#include "service/path_policy.h"
#include "service/peer_table.h"
#include "service/reloader.h"
#include "service/stats_source.h"
#include "service/stats_streams.h"

namespace pbkfs {

class Front {
 public:
  struct Keeper {
    MountKeeper& keeper;
    KeeperClient* client;  // The same, where it is another process; else null.
  };

  // All outlive the object. The mounts of the worker before this one go on already.
  Front(const DaemonOptions& options, const ConfigMemory* memory, ConfigHolder& holder,
        PathPolicy& policy, ImageRegistry& images, MountManager& manager, Keeper keeper);
  ~Front() { StopLateStarts(); }

  // Serves on `listeners` and the other addresses of the configuration, and begins to make the
  // mounts that are to be there. `resumed`: databases run on mounts that go on already, so that an
  // address which can't be served now is tried again later, and is no error.
  absl::Status Start(std::vector<UniqueFd> listeners, bool resumed);
  void RequestReload() { reloader_.RequestReload(); }
  // Probes tell that the daemon stops; no mount of the configuration is begun any more.
  void StartDraining();
  // Calls are over when this returns.
  void Stop();

 private:
  absl::Status StartMetrics();
  absl::Status StartProbes();
  void StartLater(std::vector<std::function<absl::Status()>> starts);
  void StopLateStarts();
  DaemonFacts Facts() const;
  std::vector<std::string> NotReady() const;

  const DaemonOptions& options_;
  const std::shared_ptr<const v1::DaemonConfig> start_config_;
  ConfigHolder& holder_;
  const PathPolicy& policy_;
  MountManager& manager_;
  KeeperClient* const client_;

  // Destroyed in reverse: first what listens, then what it calls.
  RpcFigures figures_;
  const StatsSource stats_;
  StatsStreams streams_;
  PeerTable peers_;
  CallGate gate_;
  MountServiceImpl mount_service_;
  CatalogServiceImpl catalog_service_;
  DiffServiceImpl diff_service_;
  HealthServiceImpl health_service_;
  ConfiguredMounts configured_mounts_;
  std::unique_ptr<MetricsServer> metrics_;
  StatsLogger stats_logger_;
  Reloader reloader_;
  std::unique_ptr<DaemonServiceImpl> daemon_service_;
  std::unique_ptr<ApiServer> server_;
  HealthServiceImpl probe_service_;
  std::unique_ptr<grpc::Server> probe_server_;
  std::unique_ptr<Acceptor> acceptor_;
  Alarm retry_;
  std::thread late_starts_;  // Of what could not be served at once.
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_FRONT_H_
