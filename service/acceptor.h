// Hands the connections of listening sockets to a gRPC server. The sockets are the keeper's: they
// outlive this process, and whoever connects while none serves waits for the next one.
#ifndef PBKFS_SERVICE_ACCEPTOR_H_
#define PBKFS_SERVICE_ACCEPTOR_H_

#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "fs/base/unique_fd.h"
#include "grpcpp/server.h"

namespace pbkfs {

class Acceptor {
 public:
  // Accepts until it is destroyed, which must be before the server is.
  static absl::StatusOr<std::unique_ptr<Acceptor>> Start(std::vector<UniqueFd> listeners,
                                                         grpc::Server& server);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

 private:
  Acceptor(std::vector<UniqueFd> listeners, UniqueFd stop, grpc::Server& server)
      : listeners_(std::move(listeners)), stop_(std::move(stop)), server_(server) {}
  void Run();

  const std::vector<UniqueFd> listeners_;
  const UniqueFd stop_;  // An eventfd.
  grpc::Server& server_;
  std::thread thread_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_ACCEPTOR_H_
