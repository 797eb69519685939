// pbkfs.v1.MountService: a thin layer over MountManager.
#ifndef PBKFS_SERVICE_MOUNT_SERVICE_H_
#define PBKFS_SERVICE_MOUNT_SERVICE_H_

#include "pbkfs/v1/mount.grpc.pb.h"
#include "service/call_gate.h"
#include "service/mount_manager.h"
#include "service/stats_source.h"
#include "service/stats_streams.h"

namespace pbkfs {

// WatchStats is served by callbacks, everything else by a thread a call.
class MountServiceImpl final
    : public v1::MountService::WithCallbackMethod_WatchStats<v1::MountService::Service> {
 public:
  // All outlive the service.
  MountServiceImpl(MountManager& manager, const StatsSource& stats, StatsStreams& streams,
                   CallGate& gate);

  grpc::Status Mount(grpc::ServerContext* context, const v1::MountRequest* request,
                     v1::Mount* response) override;
  grpc::Status Unmount(grpc::ServerContext* context, const v1::UnmountRequest* request,
                       v1::UnmountResponse* response) override;
  grpc::Status Stats(grpc::ServerContext* context, const v1::StatsRequest* request,
                     v1::StatsResponse* response) override;
  grpc::Status GetMount(grpc::ServerContext* context, const v1::GetMountRequest* request,
                        v1::Mount* response) override;
  grpc::Status ListMounts(grpc::ServerContext* context, const v1::ListMountsRequest* request,
                          v1::ListMountsResponse* response) override;
  grpc::ServerWriteReactor<v1::StatsResponse>* WatchStats(
      grpc::CallbackServerContext* context, const v1::WatchStatsRequest* request) override;

 private:
  MountManager& manager_;
  const StatsSource& stats_;
  StatsStreams& streams_;
  CallGate& gate_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_MOUNT_SERVICE_H_
