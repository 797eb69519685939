// The gRPC servers behind the sockets of the API: one for local callers, one for those who are not
// allowed, and one for each TCP listener. They listen nowhere: the acceptor brings connections.
#ifndef PBKFS_SERVICE_API_SERVER_H_
#define PBKFS_SERVICE_API_SERVER_H_

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/mutex.h"
#include "fs/base/unique_fd.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "pbkfs/v1/config.pb.h"
#include "service/call_gate.h"
#include "service/tls_files.h"

namespace pbkfs {

// Safe from any thread.
class ApiServer {
 public:
  // Certificates are read now: an error where they are bad, unless they are `optional`. Connections
  // of a listener without are closed then, until they can be read. `services` and `gate` outlive
  // the servers.
  static absl::StatusOr<std::unique_ptr<ApiServer>> Start(
      const v1::DaemonConfig& config, const std::vector<grpc::Service*>& services,
      const CallGate& gate, bool optional);
  ~ApiServer();

  // Connections of unix sockets: of callers, and of those who get nothing but CALLER_NOT_ALLOWED.
  void AddLocal(UniqueFd connection);
  void AddRefused(UniqueFd connection);
  // A connection of listeners(index), which has TLS.
  void AddTls(int index, UniqueFd connection) ABSL_LOCKS_EXCLUDED(mutex_);

  // Reads certificates again: those of the listeners that there were at the start. Where they are
  // others than before, connections that were made with the old ones end when their calls are done,
  // or after kShutdownGrace. An error changes nothing.
  absl::Status Reload(const v1::DaemonConfig& config) ABSL_LOCKS_EXCLUDED(mutex_);

  // No calls from now on; those that are running get until the deadline. Returns when they are
  // done. No connections come any more.
  void Shutdown(std::chrono::system_clock::time_point deadline) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class RefusingService;
  struct TlsServer {
    TlsPems pems;
    std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor;
    std::unique_ptr<grpc::Server> server;  // The first to go.
  };

  ApiServer(const v1::DaemonConfig& config, std::vector<grpc::Service*> services,
            const CallGate& gate);
  void Configure(grpc::ServerBuilder* builder) const;
  absl::StatusOr<std::unique_ptr<grpc::Server>> StartLocal() const;
  absl::StatusOr<std::shared_ptr<TlsServer>> StartTls(TlsPems pems) const;
  absl::StatusOr<std::shared_ptr<TlsServer>> ReadAndStartTls(const v1::Tls& tls) const;
  void StartWhatCanBe(const v1::DaemonConfig& config) ABSL_LOCKS_EXCLUDED(mutex_);
  std::shared_ptr<TlsServer> FindTls(int index) ABSL_LOCKS_EXCLUDED(mutex_);
  grpc::Server* Refusing();

  const std::vector<std::string> addresses_;  // Of the listeners, as the acceptor counts them.
  const uint32_t max_request_bytes_;
  const uint32_t max_calls_;
  const std::vector<grpc::Service*> services_;
  grpc::ResourceQuota quota_;
  const std::unique_ptr<RefusingService> refusing_service_;
  std::unique_ptr<grpc::Server> local_;
  Mutex mutex_;
  std::unique_ptr<grpc::Server> refusing_ ABSL_GUARDED_BY(mutex_);         // Started when needed.
  std::map<int, std::shared_ptr<TlsServer>> tls_ ABSL_GUARDED_BY(mutex_);  // By listener.
  std::map<int, v1::Tls> unreadable_ ABSL_GUARDED_BY(mutex_);              // Listeners without.
  std::vector<std::thread> retiring_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_API_SERVER_H_
