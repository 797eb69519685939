// What every RPC handler does around its work: let the caller in or not, count the call, and write
// an audit line for those that change something.
#ifndef PBKFS_SERVICE_RPC_CALL_H_
#define PBKFS_SERVICE_RPC_CALL_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "google/protobuf/message.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"
#include "service/access_policy.h"
#include "service/call_gate.h"

namespace pbkfs {

class RpcCall {
 public:
  // `method` as "MountService.Mount". `audited` is the request of a mutating call, else null; it
  // outlives this.
  RpcCall(CallGate& gate, const grpc::ServerContextBase& context, std::string method,
          const google::protobuf::Message* audited);

  // The body of a handler: calls `work`, unless the caller is refused, and returns what he gets.
  grpc::Status Run(absl::FunctionRef<absl::Status(const Caller& caller)> work);

 private:
  grpc::Status Finish(const absl::Status& status, bool refused);

  CallGate& gate_;
  const std::string method_;
  const Peer peer_;
  const google::protobuf::Message* const audited_;
  const absl::Time start_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_RPC_CALL_H_
