// grpc.health.v1.Health: "" for the daemon, "mount/<id>" for each mount.
#ifndef PBKFS_SERVICE_HEALTH_SERVICE_H_
#define PBKFS_SERVICE_HEALTH_SERVICE_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "service/call_gate.h"
#include "service/mount_manager.h"

namespace pbkfs {

class HealthServiceImpl final : public grpc::health::v1::Health::Service {
 public:
  // Both outlive the service. Without a gate everybody may ask: of probes nobody knows who they
  // are.
  HealthServiceImpl(const MountManager& manager, const CallGate* gate)
      : manager_(manager), gate_(gate) {}

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
  absl::Status Admit(const grpc::ServerContext& context) const;
  // SERVICE_UNKNOWN for a name that is not known.
  grpc::health::v1::HealthCheckResponse::ServingStatus StatusOf(const std::string& service) const;

  const MountManager& manager_;
  std::atomic<bool> draining_ = false;
  const CallGate* const gate_;
  std::atomic<uint32_t> watchers_{0};
  std::atomic<bool> stopping_ = false;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_HEALTH_SERVICE_H_
