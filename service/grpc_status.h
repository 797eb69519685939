// The one place where absl::Status becomes grpc::Status: code, message, and google.rpc details in
// the trailer grpc-status-details-bin.
#ifndef PBKFS_SERVICE_GRPC_STATUS_H_
#define PBKFS_SERVICE_GRPC_STATUS_H_

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace pbkfs {

// ErrorInfo always (domain "pbkfs"; the reason, or the name of the code where none was given);
// BadRequest for INVALID_ARGUMENT; PreconditionFailure for FAILED_PRECONDITION; RetryInfo for
// UNAVAILABLE.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_GRPC_STATUS_H_
