// Certificates and keys of a listener, read from their files and checked: what gRPC would only
// refuse, without a reason, when a client comes.
#ifndef PBKFS_SERVICE_TLS_FILES_H_
#define PBKFS_SERVICE_TLS_FILES_H_

#include <string>

#include "absl/status/statusor.h"
#include "pbkfs/v1/config.pb.h"

namespace pbkfs {

struct TlsPems {
  std::string certificate;
  std::string key;
  std::string client_ca;
  bool operator==(const TlsPems&) const = default;
};

// INVALID_ARGUMENT (INVALID_FIELD) names the file and what is wrong with it.
absl::StatusOr<TlsPems> ReadTlsFiles(const v1::Tls& tls);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_TLS_FILES_H_
