#include "service/rpc_call.h"

#include <utility>

#include "absl/time/clock.h"
#include "fs/base/status.h"
#include "google/protobuf/util/json_util.h"
#include "service/grpc_status.h"
#include "service/logging.h"

namespace pbkfs {

RpcCall::RpcCall(RpcFigures& figures, const grpc::ServerContext& context, std::string method,
                 const google::protobuf::Message* audited)
    : figures_(figures),
      method_(std::move(method)),
      peer_(context.peer()),
      audited_(audited),
      start_(absl::Now()) {}

grpc::Status RpcCall::Finish(const absl::Status& status) {
  const absl::Duration duration = absl::Now() - start_;
  const std::string code = absl::StatusCodeToString(status.code());
  figures_.Add(method_, code, duration);
  if (audited_ != nullptr) {
    std::string parameters;
    if (!google::protobuf::util::MessageToJsonString(*audited_, &parameters).ok()) {
      parameters.assign(1, '?');
    }
    LogEvent event(status.ok() ? spdlog::level::info : spdlog::level::warn, "audit");
    event.Field("method", method_)
        .Field("peer", peer_)
        .Field("parameters", parameters)
        .Field("result", code)
        .Field("seconds", absl::ToDoubleSeconds(duration));
    if (!status.ok()) event.Field("reason", ReasonOf(status)).Field("message", status.message());
  }
  return ToGrpcStatus(status);
}

}  // namespace pbkfs
