#include "service/call_gate.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "grpc/grpc_security_constants.h"
#include "service/limits.h"

namespace pbkfs {

Peer CallGate::PeerOf(const grpc::ServerContextBase& context) const {
  const std::string address = context.peer();
  Peer peer = peers_.Find(address);
  if (peer.kind != Peer::Kind::kUnknown) return peer;
  const std::shared_ptr<const grpc::AuthContext> certificate = context.auth_context();
  if (certificate == nullptr || !certificate->IsPeerAuthenticated()) return peer;
  peer.kind = Peer::Kind::kCertificate;
  peer.address = address;
  for (const grpc::string_ref& name : certificate->FindPropertyValues(GRPC_X509_CN_PROPERTY_NAME)) {
    peer.common_name.assign(name.data(), name.size());
  }
  for (const grpc::string_ref& name :
       certificate->FindPropertyValues(GRPC_PEER_DNS_PROPERTY_NAME)) {
    peer.dns_names.emplace_back(name.data(), name.size());
  }
  return peer;
}

absl::StatusOr<Caller> CallGate::Admit(const Peer& peer) const {
  return Caller::Admit(*config_.Get(), peer, own_uid_);
}

absl::StatusOr<CallGate::Ticket> CallGate::Enter(const Peer& peer) {
  PBKFS_ASSIGN_OR_RETURN(Caller caller, Admit(peer));
  const uint32_t most =
      LimitFor(caller.administrator(), config_.Get()->limits().max_concurrent_calls());
  const bool administrator = caller.administrator();
  const uint32_t running = ++calls_;
  Ticket ticket(&calls_, std::move(caller));
  if (running <= most) return ticket;
  return ReasonError(
      absl::StatusCode::kResourceExhausted, reason::kCallLimit,
      absl::StrCat(most, " calls are running",
                   administrator ? "" : " (more only for administrators)",
                   "; try again when one has ended, or raise limits { max_concurrent_calls } in "
                   "the configuration file"));
}

}  // namespace pbkfs
