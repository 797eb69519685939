#include "service/api_server.h"

#include <sys/socket.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/generic/async_generic_service.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_posix.h"
#include "service/grpc_status.h"
#include "service/limits.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

std::vector<std::string> AddressesOf(const v1::DaemonConfig& config) {
  std::vector<std::string> addresses;
  for (const v1::Listener& listener : config.listeners()) addresses.push_back(listener.address());
  return addresses;
}

const v1::Listener* FindListener(const v1::DaemonConfig& config, const std::string& address) {
  for (const v1::Listener& listener : config.listeners()) {
    if (listener.address() == address) return &listener;
  }
  return nullptr;
}

// Others may hold the connection too.
void Cut(const UniqueFd& connection) { shutdown(connection.get(), SHUT_RDWR); }

class Refusal final : public grpc::ServerGenericBidiReactor {
 public:
  explicit Refusal(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

}  // namespace

// Answers every method, also those that do not exist.
class ApiServer::RefusingService final : public grpc::CallbackGenericService {
 public:
  explicit RefusingService(const CallGate& gate) : gate_(gate) {}

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override {
    absl::Status status = gate_.Admit(gate_.PeerOf(*context)).status();
    if (status.ok()) {
      status = absl::UnavailableError("you are a caller since a moment ago; connect again");
    }
    return new Refusal(ToGrpcStatus(status));
  }

 private:
  const CallGate& gate_;
};

ApiServer::ApiServer(const v1::DaemonConfig& config, std::vector<grpc::Service*> services,
                     const CallGate& gate)
    : addresses_(AddressesOf(config)),
      max_request_bytes_(config.limits().max_request_bytes()),
      max_calls_(config.limits().max_concurrent_calls()),
      services_(std::move(services)),
      quota_("pbkfs-api"),
      refusing_service_(std::make_unique<RefusingService>(gate)) {
  quota_.Resize(kApiMemoryBytes);
}

absl::StatusOr<std::unique_ptr<ApiServer>> ApiServer::Start(
    const v1::DaemonConfig& config, const std::vector<grpc::Service*>& services,
    const CallGate& gate, bool optional) {
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::unique_ptr<ApiServer> api(new ApiServer(config, services, gate));
  PBKFS_ASSIGN_OR_RETURN(api->local_, api->StartLocal());
  if (optional) {
    api->StartWhatCanBe(config);
  } else {
    PBKFS_RETURN_IF_ERROR(api->Reload(config));
  }
  return api;
}

void ApiServer::StartWhatCanBe(const v1::DaemonConfig& config) {
  MutexLock lock(&mutex_);
  for (int i = 0; i < config.listeners_size(); ++i) {
    const v1::Listener& listener = config.listeners(i);
    if (!listener.has_tls()) continue;
    absl::StatusOr<std::shared_ptr<TlsServer>> tls = ReadAndStartTls(listener.tls());
    if (tls.ok()) {
      tls_[i] = *std::move(tls);
      continue;
    }
    spdlog::error("connections to {} are closed until its certificates can be read: {}",
                  listener.address(), std::string(tls.status().message()));
    unreadable_[i] = listener.tls();
  }
}

absl::StatusOr<std::shared_ptr<ApiServer::TlsServer>> ApiServer::ReadAndStartTls(
    const v1::Tls& tls) const {
  PBKFS_ASSIGN_OR_RETURN(TlsPems pems, ReadTlsFiles(tls));
  return StartTls(std::move(pems));
}

ApiServer::~ApiServer() { Shutdown(std::chrono::system_clock::now()); }

// Whoever connects and then says nothing, or only a part of something, is gone after a while, and
// what he sent takes no more memory than there is for all.
void ApiServer::Configure(grpc::ServerBuilder* builder) const {
  builder->SetMaxReceiveMessageSize(static_cast<int>(max_request_bytes_));
  builder->SetResourceQuota(quota_);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, static_cast<int>(max_calls_));
  builder->AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                              static_cast<int>(kHandshakeTimeout.count()));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                              static_cast<int>(kKeepalivePeriod.count()));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                              static_cast<int>(kKeepaliveTimeout.count()));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Pings do not stop for want of data between them.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
}

absl::StatusOr<std::unique_ptr<grpc::Server>> ApiServer::StartLocal() const {
  grpc::ServerBuilder builder;
  Configure(&builder);
  for (grpc::Service* service : services_) builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return absl::InternalError("gRPC starts no server");
  return server;
}

absl::StatusOr<std::shared_ptr<ApiServer::TlsServer>> ApiServer::StartTls(TlsPems pems) const {
  grpc::SslServerCredentialsOptions options(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = pems.client_ca;
  options.pem_key_cert_pairs.push_back({pems.key, pems.certificate});
  grpc::ServerBuilder builder;
  Configure(&builder);
  for (grpc::Service* service : services_) builder.RegisterService(service);
  auto tls = std::make_shared<TlsServer>();
  tls->pems = std::move(pems);
  tls->acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      grpc::SslServerCredentials(options));
  tls->server = builder.BuildAndStart();
  if (tls->server == nullptr) return absl::InternalError("gRPC starts no server with TLS");
  return tls;
}

void ApiServer::AddLocal(UniqueFd connection) {
  grpc::AddInsecureChannelFromFd(local_.get(), connection.Release());
}

grpc::Server* ApiServer::Refusing() {
  MutexLock lock(&mutex_);
  if (refusing_ == nullptr) {
    grpc::ServerBuilder builder;
    Configure(&builder);
    builder.RegisterCallbackGenericService(refusing_service_.get());
    refusing_ = builder.BuildAndStart();
  }
  return refusing_.get();
}

void ApiServer::AddRefused(UniqueFd connection) {
  grpc::Server* const server = Refusing();
  if (server == nullptr) return Cut(connection);
  grpc::AddInsecureChannelFromFd(server, connection.Release());
}

// Null where there is none. Whoever connects makes the daemon look at bad certificates again.
std::shared_ptr<ApiServer::TlsServer> ApiServer::FindTls(int index) {
  MutexLock lock(&mutex_);
  if (const auto found = tls_.find(index); found != tls_.end()) return found->second;
  const auto unreadable = unreadable_.find(index);
  if (unreadable == unreadable_.end()) return nullptr;
  absl::StatusOr<std::shared_ptr<TlsServer>> tls = ReadAndStartTls(unreadable->second);
  if (!tls.ok()) return nullptr;
  spdlog::info("the certificates of {} can be read again", addresses_[index]);
  unreadable_.erase(unreadable);
  return tls_[index] = *std::move(tls);
}

void ApiServer::AddTls(int index, UniqueFd connection) {
  const std::shared_ptr<TlsServer> tls = FindTls(index);
  if (tls == nullptr) return Cut(connection);
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
  parameters.fd = connection.Release();
  tls->acceptor->HandleNewConnection(&parameters);
}

absl::Status ApiServer::Reload(const v1::DaemonConfig& config) {
  std::map<int, std::shared_ptr<TlsServer>> next;
  std::map<int, std::shared_ptr<TlsServer>> now;
  {
    MutexLock lock(&mutex_);
    now = tls_;
  }
  for (int i = 0; i < static_cast<int>(addresses_.size()); ++i) {
    const v1::Listener* const listener = FindListener(config, addresses_[i]);
    const auto old = now.find(i);
    if (listener == nullptr || !listener->has_tls()) {
      // The socket is there until the daemon starts again, and keeps its certificates.
      if (old != now.end()) next.insert(now.extract(old));
      continue;
    }
    PBKFS_ASSIGN_OR_RETURN(TlsPems pems, ReadTlsFiles(listener->tls()));
    if (old != now.end() && old->second->pems == pems) {
      next.insert(now.extract(old));
    } else {
      PBKFS_ASSIGN_OR_RETURN(next[i], StartTls(std::move(pems)));
    }
  }
  MutexLock lock(&mutex_);
  tls_ = std::move(next);
  unreadable_.clear();
  for (auto& [index, tls] : now) {
    retiring_.emplace_back([tls = std::move(tls)] {
      tls->server->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
      tls->server->Wait();
    });
  }
  return absl::OkStatus();
}

void ApiServer::Shutdown(std::chrono::system_clock::time_point deadline) {
  std::vector<std::thread> retiring;
  std::vector<grpc::Server*> servers = {local_.get()};
  {
    MutexLock lock(&mutex_);
    retiring.swap(retiring_);
    if (refusing_ != nullptr) servers.push_back(refusing_.get());
    for (const auto& [index, tls] : tls_) servers.push_back(tls->server.get());
  }
  for (grpc::Server* server : servers) {
    if (server != nullptr) server->Shutdown(deadline);
  }
  for (grpc::Server* server : servers) {
    if (server != nullptr) server->Wait();
  }
  for (std::thread& thread : retiring) thread.join();
}

}  // namespace pbkfs
