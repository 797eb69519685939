#include "service/grpc_status.h"

#include <string>

#include "fs/base/status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "service/utf8.h"

namespace pbkfs {
namespace {

constexpr char kDomain[] = "pbkfs";
// A daemon that restarts is back within a second or two.
constexpr int64_t kRetryDelaySeconds = 1;

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message = ToUtf8(status.message());
  const std::string field = ToUtf8(FieldOf(status));
  std::string reason = ReasonOf(status);
  if (reason.empty()) reason = absl::StatusCodeToString(status.code());

  google::rpc::Status details;
  // The codes of both worlds have the same numbers.
  details.set_code(static_cast<int>(status.code()));
  details.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain(kDomain);
  if (!field.empty()) (*info.mutable_metadata())["field"] = field;
  details.add_details()->PackFrom(info);
  if (absl::IsInvalidArgument(status)) {
    google::rpc::BadRequest bad_request;
    auto* violation = bad_request.add_field_violations();
    violation->set_field(field);
    violation->set_description(message);
    details.add_details()->PackFrom(bad_request);
  } else if (absl::IsFailedPrecondition(status)) {
    google::rpc::PreconditionFailure failure;
    auto* violation = failure.add_violations();
    violation->set_type(reason);
    violation->set_subject(field);
    violation->set_description(message);
    details.add_details()->PackFrom(failure);
  } else if (absl::IsUnavailable(status)) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(kRetryDelaySeconds);
    details.add_details()->PackFrom(retry);
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message,
                      details.SerializeAsString());
}

}  // namespace pbkfs
