#include "service/front.h"

#include <unistd.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "fs/base/io.h"
#include "fs/base/status.h"
#include "grpcpp/server_builder.h"
#include "service/limits.h"
#include "service/logging.h"
#include "service/proto_convert.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

constexpr char kDefaultMetricsAddress[] = "127.0.0.1:9467";

// "HOST:PORT"; "" = none.
std::string MetricsAddress(const v1::DaemonConfig& config) {
  if (config.metrics_address() == "off") return "";
  return config.metrics_address().empty() ? kDefaultMetricsAddress : config.metrics_address();
}

// Ready means that every mount of the configuration is there.
void TellServiceManager(MountKeeper& keeper, const std::vector<std::string>& failed) {
  const std::string text = failed.empty()
                               ? "serving"
                               : absl::StrCat("mounts of the configuration that can't be made: ",
                                              absl::StrJoin(failed, "; "));
  const absl::Status told = keeper.Serving(failed.empty(), text);
  if (!told.ok()) spdlog::warn("the service manager can't be told: {}", told.ToString());
}

// What the counters lie in; none where the daemon has no keeper.
const UniqueFd& MemoryOfFigures(const KeeperClient* client) {
  static const UniqueFd none;
  return client == nullptr ? none : client->figures();
}

}  // namespace

Front::Front(const DaemonOptions& options, const ConfigMemory* memory, ConfigHolder& holder,
             PathPolicy& policy, ImageRegistry& images, MountManager& manager, Keeper keeper)
    : options_(options),
      start_config_(holder.Get()),
      holder_(holder),
      policy_(policy),
      manager_(manager),
      client_(keeper.client),
      stats_(manager, figures_, MemoryOfFigures(client_)),
      streams_({[this](const std::string& id) { return stats_.Sample(id); },
                [this](const std::string& id) { return manager_.Find(id) != nullptr; }},
               figures_),
      gate_(holder, peers_, figures_),
      mount_service_(manager, stats_, streams_, gate_),
      catalog_service_(policy, images, gate_),
      diff_service_(policy, manager, images, PosixIo(), gate_),
      health_service_(manager, &gate_),
      configured_mounts_(
          holder, manager,
          [&keeper = keeper.keeper](const auto& failed) { TellServiceManager(keeper, failed); }),
      stats_logger_([this] { return *stats_.Sample(""); },
                    FromProto(start_config_->stats_interval())),
      reloader_(options, memory, holder, policy, stats_logger_, configured_mounts_),
      probe_service_(manager, nullptr) {}

absl::Status Front::Start(std::vector<UniqueFd> listeners, bool resumed) {
  std::vector<std::function<absl::Status()>> late;
  const auto start = [&](absl::Status (Front::*serve)()) {
    absl::Status status = (this->*serve)();
    if (status.ok() || !resumed) return status;
    spdlog::error("{}; tried again until it can be", std::string(status.message()));
    late.emplace_back([this, serve] { return (this->*serve)(); });
    return absl::OkStatus();
  };
  PBKFS_RETURN_IF_ERROR(start(&Front::StartMetrics));
  manager_.StartRestoring();
  configured_mounts_.Start();
  const DaemonFacts facts = Facts();
  daemon_service_ =
      std::make_unique<DaemonServiceImpl>(manager_, holder_, client_, reloader_, facts, gate_);
  PBKFS_ASSIGN_OR_RETURN(server_,
                         ApiServer::Start(*start_config_,
                                          {&mount_service_, &catalog_service_, &diff_service_,
                                           daemon_service_.get(), &health_service_},
                                          gate_, /*optional=*/resumed));
  reloader_.SetTls([this](const v1::DaemonConfig& next) { return server_->Reload(next); });
  PBKFS_RETURN_IF_ERROR(start(&Front::StartProbes));
  PBKFS_ASSIGN_OR_RETURN(acceptor_,
                         Acceptor::Start(std::move(listeners), holder_, gate_, peers_, *server_));
  LogEvent(spdlog::level::info, "ready")
      .Field("version", PBKFS_VERSION)
      .Field("pid", static_cast<uint64_t>(getpid()))
      .Field("listen", absl::StrJoin(facts.listen_addresses, ","))
      .Field("state_dir", facts.state_directory);
  if (!late.empty()) StartLater(std::move(late));
  return absl::OkStatus();
}

void Front::StartLater(std::vector<std::function<absl::Status()>> starts) {
  late_starts_ = std::thread([this, starts = std::move(starts)]() mutable {
    while (!starts.empty() && retry_.WaitFor(kLateStartPeriod)) {
      std::erase_if(starts, [](const auto& start) { return start().ok(); });
    }
  });
}

void Front::StopLateStarts() {
  retry_.Stop();
  if (late_starts_.joinable()) late_starts_.join();
}

absl::Status Front::StartMetrics() {
  const std::string address = MetricsAddress(*start_config_);
  if (address.empty()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<MetricsServer>> server =
      MetricsServer::Start(address, {[this] { return *stats_.Sample(""); },
                                     [this] { return manager_.ListMounts(Caller::Daemon()); },
                                     [this] { return NotReady(); }});
  if (server.ok()) {
    metrics_ = *std::move(server);
    LogEvent(spdlog::level::info, "metrics")
        .Field("address", address)
        .Field("port", static_cast<uint64_t>(metrics_->port()));
    return absl::OkStatus();
  }
  if (!start_config_->metrics_address().empty()) return server.status();
  // The default address was nobody's wish: mounts are worth more than their figures.
  spdlog::error("{}; going on without metrics", std::string(server.status().message()));
  return absl::OkStatus();
}

// For probes without certificates, where an address is configured.
absl::Status Front::StartProbes() {
  const std::string& address = start_config_->health_address();
  if (address.empty()) return absl::OkStatus();
  grpc::ServerBuilder builder;
  // Another daemon's port is an error, and is not shared with it.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&probe_service_);
  probe_server_ = builder.BuildAndStart();
  if (probe_server_ == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat(
        "health checks can't be served at ", address,
        ": is the address this machine's, and the port free? Choose another with --health"));
  }
  LogEvent(spdlog::level::info, "health").Field("address", address);
  return absl::OkStatus();
}

DaemonFacts Front::Facts() const {
  DaemonFacts facts;
  facts.start_time = absl::Now();
  facts.build = BuildDescription();
  for (const v1::Listener& listener : start_config_->listeners()) {
    facts.listen_addresses.push_back(listener.address());
  }
  facts.config_file = options_.config_file;
  facts.state_directory = policy_.state_directory();
  if (metrics_ != nullptr) {
    const std::string address = MetricsAddress(*start_config_);
    facts.metrics_address =
        absl::StrCat(address.substr(0, address.rfind(':') + 1), metrics_->port());
  }
  return facts;
}

std::vector<std::string> Front::NotReady() const {
  std::vector<std::string> reasons = manager_.NotReady();
  for (std::string& reason : configured_mounts_.NotReady()) reasons.push_back(std::move(reason));
  return reasons;
}

void Front::StartDraining() {
  for (HealthServiceImpl* health : {&health_service_, &probe_service_}) health->StartDraining();
  configured_mounts_.Join();
}

void Front::Stop() {
  StopLateStarts();
  for (HealthServiceImpl* health : {&health_service_, &probe_service_}) health->Stop();
  streams_.Stop();
  acceptor_.reset();
  server_->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
  reloader_.Stop();
}

}  // namespace pbkfs
