#include "service/rpc_call.h"

#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "fs/base/status.h"
#include "google/protobuf/util/json_util.h"
#include "pbkfs/v1/mount.pb.h"
#include "service/grpc_status.h"
#include "service/limits.h"
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
  if (text.size() > kMaxLoggedParameterBytes) {
    const std::string rest = absl::StrCat("… (", text.size(), " bytes)");
    text.resize(kMaxLoggedParameterBytes);
    text += rest;
  }
  return text;
}

void AddPeer(const Peer& peer, LogEvent* event) {
  switch (peer.kind) {
    case Peer::Kind::kLocal:
      event->Field("uid", uint64_t{peer.uid}).Field("pid", static_cast<uint64_t>(peer.pid));
      return;
    case Peer::Kind::kCertificate: {
      const bool unnamed = peer.common_name.empty() && !peer.dns_names.empty();
      event->Field("certificate", unnamed ? peer.dns_names[0] : peer.common_name)
          .Field("address", peer.address);
      return;
    }
    case Peer::Kind::kUnknown:
      event->Field("caller", "unknown");
  }
}

}  // namespace

RpcCall::RpcCall(CallGate& gate, const grpc::ServerContextBase& context, std::string method,
                 const google::protobuf::Message* audited)
    : gate_(gate),
      method_(std::move(method)),
      peer_(gate.PeerOf(context)),
      audited_(audited),
      start_(absl::Now()) {}

grpc::Status RpcCall::Run(absl::FunctionRef<absl::Status(const Caller&)> work) {
  const absl::StatusOr<CallGate::Ticket> ticket = gate_.Enter(peer_);
  if (!ticket.ok()) return Finish(ticket.status(), /*refused=*/true);
  return Finish(work(ticket->caller()), /*refused=*/false);
}

grpc::Status RpcCall::Finish(const absl::Status& status, bool refused) {
  const absl::Duration duration = absl::Now() - start_;
  const std::string code = absl::StatusCodeToString(status.code());
  gate_.figures().Add(method_, code, duration);
  if (audited_ != nullptr || refused) {
    LogEvent event(status.ok() ? spdlog::level::info : spdlog::level::warn, "audit");
    event.Field("method", method_);
    AddPeer(peer_, &event);
    if (audited_ != nullptr) event.PrivateField("parameters", ParametersForLog(*audited_));
    event.Field("result", code).Field("seconds", absl::ToDoubleSeconds(duration));
    if (!status.ok()) event.Field("reason", ReasonOf(status)).Field("message", status.message());
  }
  return ToGrpcStatus(status);
}

}  // namespace pbkfs
