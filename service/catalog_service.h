// pbkfs.v1.CatalogService: what is in pg_probackup catalogs, and what of it can be mounted.
#ifndef PBKFS_SERVICE_CATALOG_SERVICE_H_
#define PBKFS_SERVICE_CATALOG_SERVICE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "fs/catalog/catalog.h"
#include "pbkfs/v1/catalog.grpc.pb.h"
#include "service/call_gate.h"
#include "service/image_registry.h"
#include "service/path_policy.h"

namespace pbkfs {

class CatalogServiceImpl final : public v1::CatalogService::Service {
 public:
  // All outlive the service.
  CatalogServiceImpl(const PathPolicy& policy, ImageRegistry& images, CallGate& gate);

  grpc::Status ListInstances(grpc::ServerContext* context, const v1::ListInstancesRequest* request,
                             v1::ListInstancesResponse* response) override;
  grpc::Status ListBackups(grpc::ServerContext* context, const v1::ListBackupsRequest* request,
                           v1::ListBackupsResponse* response) override;
  grpc::Status GetBackup(grpc::ServerContext* context, const v1::GetBackupRequest* request,
                         v1::Backup* response) override;

 private:
  absl::StatusOr<std::unique_ptr<Catalog>> OpenCatalog(const std::string& store) const;
  absl::Status DoListInstances(const v1::ListInstancesRequest& request,
                               v1::ListInstancesResponse* response) const;
  absl::Status DoListBackups(const v1::ListBackupsRequest& request,
                             v1::ListBackupsResponse* response) const;
  absl::Status DoGetBackup(const v1::GetBackupRequest& request, v1::Backup* response) const;

  const PathPolicy& policy_;
  ImageRegistry& images_;
  CallGate& gate_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_CATALOG_SERVICE_H_
