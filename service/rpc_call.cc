#include "service/rpc_call.h"

#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "fs/base/status.h"
#include "google/protobuf/util/json_util.h"
#include "pbkfs/v1/mount.pb.h"
#include "service/grpc_status.h"
#include "service/logging.h"

namespace pbkfs {
namespace {

// Connection strings and commands may hold passwords, which do not belong into a log.
bool MayHoldSecret(const std::string& setting) {
  for (const char* part : {"conninfo", "password", "passphrase", "secret", "command"}) {
    if (absl::StrContains(setting, part)) return true;
  }
  return false;
}

std::string ParametersForLog(const google::protobuf::Message& request) {
  std::unique_ptr<google::protobuf::Message> copy(request.New());
  copy->CopyFrom(request);
  if (auto* mount = dynamic_cast<v1::MountRequest*>(copy.get())) {
    for (auto& [name, value] : *mount->mutable_settings()) {
      if (MayHoldSecret(name)) value = "(not logged)";
    }
  }
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(*copy, &text).ok()) text.assign(1, '?');
  return text;
}

}  // namespace

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
    LogEvent event(status.ok() ? spdlog::level::info : spdlog::level::warn, "audit");
    event.Field("method", method_)
        .Field("peer", peer_)
        .PrivateField("parameters", ParametersForLog(*audited_))
        .Field("result", code)
        .Field("seconds", absl::ToDoubleSeconds(duration));
    if (!status.ok()) event.Field("reason", ReasonOf(status)).Field("message", status.message());
  }
  return ToGrpcStatus(status);
}

}  // namespace pbkfs
