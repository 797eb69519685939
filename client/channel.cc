#include "client/channel.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/status_macros.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"

namespace pbkfs::client {
namespace {

using Options = std::function<std::string(const std::string& name)>;

absl::StatusOr<std::string> ReadPem(const std::string& address, const Options& options,
                                    const std::string& option, const char* variable) {
  std::string path = options(option);
  const char* const value = getenv(variable);
  if (path.empty() && value != nullptr) path = value;
  if (path.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("address '", address, "': TCP needs TLS, and --",
                                                   option, " or ", variable, " is not given"));
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || text.str().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", option, " ", path, ": ", errno != 0 ? strerror(errno) : "is empty"));
  }
  return text.str();
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& address,
                                                           const Options& option) {
  if (absl::StartsWith(address, "unix:")) {
    return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  }
  grpc::SslCredentialsOptions options;
  CLIENT_ASSIGN_OR_RETURN(options.pem_root_certs,
                          ReadPem(address, option, "tls-ca", "PBKFS_TLS_CA"));
  CLIENT_ASSIGN_OR_RETURN(options.pem_cert_chain,
                          ReadPem(address, option, "tls-cert", "PBKFS_TLS_CERT"));
  CLIENT_ASSIGN_OR_RETURN(options.pem_private_key,
                          ReadPem(address, option, "tls-key", "PBKFS_TLS_KEY"));
  return grpc::CreateChannel(address, grpc::SslCredentials(options));
}

}  // namespace pbkfs::client
