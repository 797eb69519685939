#include "service/health_service.h"

#include <memory>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "fs/base/status.h"
#include "service/grpc_status.h"
#include "service/limits.h"

namespace pbkfs {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

HealthCheckResponse::ServingStatus HealthServiceImpl::StatusOf(const std::string& service) const {
  if (service.empty()) {
    return draining_ ? HealthCheckResponse::NOT_SERVING : HealthCheckResponse::SERVING;
  }
  absl::string_view id = service;
  if (!absl::ConsumePrefix(&id, "mount/")) return HealthCheckResponse::SERVICE_UNKNOWN;
  const std::shared_ptr<const LiveMount> mount = manager_.Find(std::string(id));
  if (mount == nullptr) return HealthCheckResponse::SERVICE_UNKNOWN;
  return mount->Healthy() ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

absl::Status HealthServiceImpl::Admit(const grpc::ServerContext& context) const {
  return gate_ == nullptr ? absl::OkStatus() : gate_->Admit(gate_->PeerOf(context)).status();
}

grpc::Status HealthServiceImpl::Check(grpc::ServerContext* context,
                                      const HealthCheckRequest* request,
                                      HealthCheckResponse* response) {
  if (absl::Status admitted = Admit(*context); !admitted.ok()) return ToGrpcStatus(admitted);
  const HealthCheckResponse::ServingStatus status = StatusOf(request->service());
  if (status == HealthCheckResponse::SERVICE_UNKNOWN) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND,
                        absl::StrCat("no service '", request->service(),
                                     "'; there are \"\" and \"mount/<id>\" of each mount"));
  }
  response->set_status(status);
  return grpc::Status::OK;
}

grpc::Status HealthServiceImpl::Watch(grpc::ServerContext* context,
                                      const HealthCheckRequest* request,
                                      grpc::ServerWriter<HealthCheckResponse>* writer) {
  if (absl::Status admitted = Admit(*context); !admitted.ok()) return ToGrpcStatus(admitted);
  const absl::Cleanup gone = [this] { --watchers_; };
  if (++watchers_ > kMaxHealthWatchers) {
    return ToGrpcStatus(ReasonError(
        absl::StatusCode::kResourceExhausted, reason::kCallLimit,
        absl::StrCat(kMaxHealthWatchers, " clients watch already; ask with Check instead")));
  }
  int last = -1;
  while (!context->IsCancelled() && !stopping_) {
    HealthCheckResponse response;
    response.set_status(StatusOf(request->service()));
    if (response.status() != last) {
      last = response.status();
      if (!writer->Write(response)) break;
    }
    std::this_thread::sleep_for(kHealthWatchPeriod);
  }
  return grpc::Status(grpc::StatusCode::CANCELLED, "the watch ended");
}

}  // namespace pbkfs
