// What every call passes: who calls, whether he may, and whether there is room for one more call. A
// part of the room is for administrators alone, so that nobody can lock them out.
#ifndef PBKFS_SERVICE_CALL_GATE_H_
#define PBKFS_SERVICE_CALL_GATE_H_

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "grpcpp/server_context.h"
#include "service/access_policy.h"
#include "service/config_holder.h"
#include "service/metrics/histogram.h"
#include "service/peer_table.h"

namespace pbkfs {

namespace reason {
inline constexpr absl::string_view kCallLimit = "CALL_LIMIT";
}

// Safe from any thread.
class CallGate {
 public:
  // All outlive the gate.
  CallGate(const ConfigHolder& config, const PeerTable& peers, RpcFigures& figures)
      : config_(config), peers_(peers), figures_(figures), own_uid_(geteuid()) {}

  // Room for one call, as long as this lives.
  class Ticket {
   public:
    Ticket(std::atomic<uint32_t>* calls, Caller caller)
        : calls_(calls), caller_(std::move(caller)) {}
    ~Ticket() {
      if (calls_ != nullptr) --*calls_;
    }
    Ticket(Ticket&& other) noexcept
        : calls_(std::exchange(other.calls_, nullptr)), caller_(std::move(other.caller_)) {}
    Ticket& operator=(Ticket&&) = delete;

    const Caller& caller() const { return caller_; }

   private:
    std::atomic<uint32_t>* calls_;
    Caller caller_;
  };

  // The other end of the connection that a call came by.
  Peer PeerOf(const grpc::ServerContextBase& context) const;
  // CALLER_NOT_ALLOWED; does not count the call.
  absl::StatusOr<Caller> Admit(const Peer& peer) const;
  // CALLER_NOT_ALLOWED; RESOURCE_EXHAUSTED (CALL_LIMIT) where too many calls are running.
  absl::StatusOr<Ticket> Enter(const Peer& peer);

  RpcFigures& figures() { return figures_; }

 private:
  const ConfigHolder& config_;
  const PeerTable& peers_;
  RpcFigures& figures_;
  const uid_t own_uid_;
  std::atomic<uint32_t> calls_{0};
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_CALL_GATE_H_
