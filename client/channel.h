// The connection to the daemon: a unix socket, or TCP with TLS and a certificate of our own.
#ifndef PBKFS_CLIENT_CHANNEL_H_
#define PBKFS_CLIENT_CHANNEL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "client/arguments.h"
#include "grpcpp/channel.h"

namespace pbkfs::client {

// By --tls-ca, --tls-cert and --tls-key, else PBKFS_TLS_CA, PBKFS_TLS_CERT and PBKFS_TLS_KEY.
// INVALID_ARGUMENT where HOST:PORT is called without them, or a file can't be read.
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const Arguments& arguments);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_CHANNEL_H_
