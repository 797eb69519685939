// What every RPC handler does around its work: count the call, and write an audit line for those
// that change something.
#ifndef PBKFS_SERVICE_RPC_CALL_H_
#define PBKFS_SERVICE_RPC_CALL_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "google/protobuf/message.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"
#include "service/metrics/histogram.h"

namespace pbkfs {

// `return call.Finish(status)` is the last statement of a handler.
class RpcCall {
 public:
  // `method` as "MountService.Mount". `audited` is the request of a mutating call, else null; it
  // outlives this.
  RpcCall(RpcFigures& figures, const grpc::ServerContext& context, std::string method,
          const google::protobuf::Message* audited);

  grpc::Status Finish(const absl::Status& status);

 private:
  RpcFigures& figures_;
  const std::string method_;
  const std::string peer_;
  const google::protobuf::Message* const audited_;
  const absl::Time start_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_RPC_CALL_H_
