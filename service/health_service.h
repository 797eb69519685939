// grpc.health.v1.Health: "" for the daemon, "mount/<id>" for each mount.
#ifndef PBKFS_SERVICE_HEALTH_SERVICE_H_
#define PBKFS_SERVICE_HEALTH_SERVICE_H_

#include <atomic>
#include <string>

#include "grpc/health/v1/health.grpc.pb.h"
#include "service/metrics/histogram.h"
#include "service/mount_manager.h"

namespace pbkfs {

class HealthServiceImpl final : public grpc::health::v1::Health::Service {
 public:
  // The manager outlives the service.
  explicit HealthServiceImpl(const MountManager& manager) : manager_(manager) {}

  grpc::Status Check(grpc::ServerContext* context,
                     const grpc::health::v1::HealthCheckRequest* request,
                     grpc::health::v1::HealthCheckResponse* response) override;
  grpc::Status Watch(grpc::ServerContext* context,
                     const grpc::health::v1::HealthCheckRequest* request,
                     grpc::ServerWriter<grpc::health::v1::HealthCheckResponse>* writer) override;

  // The daemon takes no new mounts: "" is NOT_SERVING.
  void StartDraining() { draining_ = true; }
  // Lets watchers go.
  void Stop() { stopping_ = true; }

 private:
  // SERVICE_UNKNOWN for a name that is not known.
  grpc::health::v1::HealthCheckResponse::ServingStatus StatusOf(const std::string& service) const;

  const MountManager& manager_;
  std::atomic<bool> draining_ = false;
  std::atomic<bool> stopping_ = false;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_HEALTH_SERVICE_H_
