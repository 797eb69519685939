// pbkfs.v1.MountService: a thin layer over MountManager.
#ifndef PBKFS_SERVICE_MOUNT_SERVICE_H_
#define PBKFS_SERVICE_MOUNT_SERVICE_H_

#include "pbkfs/v1/mount.grpc.pb.h"
#include "service/histogram.h"
#include "service/mount_manager.h"

namespace pbkfs {

class MountServiceImpl final : public v1::MountService::Service {
 public:
  // Both outlive the service.
  MountServiceImpl(MountManager& manager, RpcFigures& figures);

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

 private:
  MountManager& manager_;
  RpcFigures& figures_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_MOUNT_SERVICE_H_
