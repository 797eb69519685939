// pbkfs.v1.DaemonService: a thin layer over daemon_status.h and the reload.
#ifndef PBKFS_SERVICE_DAEMON_SERVICE_H_
#define PBKFS_SERVICE_DAEMON_SERVICE_H_

#include <string>

#include "pbkfs/v1/daemon.grpc.pb.h"
#include "service/call_gate.h"
#include "service/config_holder.h"
#include "service/daemon_status.h"
#include "service/keeper/mount_keeper.h"
#include "service/mount_manager.h"
#include "service/reloader.h"

namespace pbkfs {

// The compiler, the kind of build, and the libraries: DaemonStatus.build.
std::string BuildDescription();

class DaemonServiceImpl final : public v1::DaemonService::Service {
 public:
  // All but `facts` outlive the service. `keeper` is null where the daemon has none.
  DaemonServiceImpl(const MountManager& manager, const ConfigHolder& config, KeeperClient* keeper,
                    Reloader& reloader, DaemonFacts facts, CallGate& gate);

  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest* request,
                         v1::DaemonStatus* response) override;
  grpc::Status Reload(grpc::ServerContext* context, const v1::ReloadRequest* request,
                      v1::ReloadResponse* response) override;
  grpc::Status Upgrade(grpc::ServerContext* context, const v1::UpgradeRequest* request,
                       v1::UpgradeResponse* response) override;
  grpc::Status DebugDump(grpc::ServerContext* context, const v1::DebugDumpRequest* request,
                         v1::DebugDumpResponse* response) override;
  grpc::Status SetLogLevel(grpc::ServerContext* context, const v1::SetLogLevelRequest* request,
                           v1::SetLogLevelResponse* response) override;

 private:
  v1::DaemonStatus Status() const;

  const MountManager& manager_;
  const ConfigHolder& config_;
  KeeperClient* const keeper_;
  Reloader& reloader_;
  const DaemonFacts facts_;
  CallGate& gate_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_DAEMON_SERVICE_H_
