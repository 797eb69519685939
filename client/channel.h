// The connection to the daemon: a unix socket, or TCP with TLS and a certificate of our own.
#ifndef PBKFS_CLIENT_CHANNEL_H_
#define PBKFS_CLIENT_CHANNEL_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/channel.h"

namespace pbkfs::client {

// By --tls-ca, --tls-cert and --tls-key, else PBKFS_TLS_CA, PBKFS_TLS_CERT and PBKFS_TLS_KEY.
// INVALID_ARGUMENT where HOST:PORT is called without them, or a file can't be read.
// `option` gives the value of an option, "" where it is not given.
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(
    const std::string& address, const std::function<std::string(const std::string& name)>& option);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_CHANNEL_H_
