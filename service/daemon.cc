#include "service/daemon.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "fs/base/io.h"
#include "fs/base/status.h"
#include "fs/image/image.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "service/acceptor.h"
#include "service/api_server.h"
#include "service/call_gate.h"
#include "service/catalog_lock.h"
#include "service/catalog_service.h"
#include "service/config_holder.h"
#include "service/configuration.h"
#include "service/configured_mounts.h"
#include "service/daemon_service.h"
#include "service/diff_service.h"
#include "service/health_service.h"
#include "service/image_registry.h"
#include "service/keeper/mount_keeper.h"
#include "service/keeper/unix_socket.h"
#include "service/limits.h"
#include "service/logging.h"
#include "service/metrics/metrics_server.h"
#include "service/metrics/stats_logger.h"
#include "service/mount_manager.h"
#include "service/mount_registry.h"
#include "service/mount_service.h"
#include "service/path_policy.h"
#include "service/peer_table.h"
#include "service/proto_convert.h"
#include "service/reloader.h"
#include "service/stats_source.h"
#include "service/stats_streams.h"
#include "service/stop_limit.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

constexpr char kDefaultMetricsAddress[] = "127.0.0.1:9467";

sigset_t DaemonSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  return signals;
}

int WaitForStopSignal(Reloader* reloader) {
  const sigset_t signals = DaemonSignals();
  while (true) {
    int signal_number = 0;
    if (sigwait(&signals, &signal_number) != 0) continue;
    if (signal_number != SIGHUP) return signal_number;
    reloader->RequestReload();
  }
}

// Whether somebody has lost patience since the last call.
bool AnotherStopSignal() {
  const sigset_t signals = DaemonSignals();
  const timespec now = {};
  const int signal_number = sigtimedwait(&signals, nullptr, &now);
  return signal_number == SIGTERM || signal_number == SIGINT;
}

absl::Status MakeDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  return ErrnoError(errno,
                    absl::StrCat("making ", path, " (choose another place with --state-dir)"));
}

// For probes without certificates; null where no address is configured.
absl::StatusOr<std::unique_ptr<grpc::Server>> StartHealthServer(const std::string& address,
                                                                HealthServiceImpl* service) {
  if (address.empty()) return nullptr;
  grpc::ServerBuilder builder;
  // Another daemon's port is an error, and is not shared with it.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat(
        "health checks can't be served at ", address,
        ": is the address this machine's, and the port free? Choose another with --health"));
  }
  LogEvent(spdlog::level::info, "health").Field("address", address);
  return server;
}

absl::StatusOr<std::vector<UniqueFd>> Listen(const v1::DaemonConfig& config) {
  std::vector<UniqueFd> listeners;
  for (const ListenAddress& address : ListenAddresses(config)) {
    PBKFS_ASSIGN_OR_RETURN(UniqueFd listener, ListenAt(address));
    listeners.push_back(std::move(listener));
  }
  return listeners;
}

// Memory that this process waits for must not be made free by writing into our own mounts.
void BecomeIoFlusher() {
  if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0) {
    spdlog::debug(
        "PR_SET_IO_FLUSHER is not allowed here: under extreme lack of memory a mount "
        "may be slow");
  }
}

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

absl::StatusOr<std::unique_ptr<MetricsServer>> StartMetrics(const v1::DaemonConfig& config,
                                                            MetricsSources sources) {
  const std::string address = MetricsAddress(config);
  if (address.empty()) return nullptr;
  absl::StatusOr<std::unique_ptr<MetricsServer>> server =
      MetricsServer::Start(address, std::move(sources));
  if (server.ok()) {
    LogEvent(spdlog::level::info, "metrics")
        .Field("address", address)
        .Field("port", static_cast<uint64_t>((*server)->port()));
    return server;
  }
  if (!config.metrics_address().empty()) return server.status();
  // The default address was nobody's wish: mounts are worth more than their figures.
  spdlog::error("{}; going on without metrics", std::string(server.status().message()));
  return nullptr;
}

}  // namespace

void BlockDaemonSignals() {
  const sigset_t signals = DaemonSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

absl::Status RunDaemon(const DaemonOptions& options, v1::DaemonConfig config,
                       const ConfigMemory* memory) {
  ConfigHolder holder(std::move(config));
  const std::shared_ptr<const v1::DaemonConfig> start_config = holder.Get();
  BecomeIoFlusher();
  std::unique_ptr<MountKeeper> keeper;
  KeeperClient* client = nullptr;  // The keeper, where it is another process.
  std::vector<UniqueFd> listeners;
  if (options.worker_socket >= 0) {
    PBKFS_ASSIGN_OR_RETURN(std::unique_ptr<KeeperClient> connected,
                           KeeperClient::Connect(UniqueFd(options.worker_socket)));
    client = connected.get();
    listeners = client->TakeListeners();
    keeper = std::move(connected);
  } else {
    keeper = MakeOwnKeeper();
    PBKFS_ASSIGN_OR_RETURN(listeners, Listen(*start_config));
  }
  const std::string& state_directory = start_config->state_directory();
  PBKFS_RETURN_IF_ERROR(MakeDirectory(absl::StrCat(state_directory, "/diffs")));
  PBKFS_ASSIGN_OR_RETURN(
      const std::unique_ptr<PathPolicy> path_policy,
      PathPolicy::Create({start_config->allow_root().begin(), start_config->allow_root().end()},
                         state_directory));
  PathPolicy& policy = *path_policy;
  PBKFS_ASSIGN_OR_RETURN(const MountRegistry registry,
                         MountRegistry::Open(policy.state_directory()));
  std::optional<StopLimit> stop_limit;
  // Destroyed in reverse: first what listens, then what it calls.
  RpcFigures figures;
  ImageCacheOptions cache_options;
  const v1::Budgets& budgets = start_config->budgets();
  if (budgets.page_index_bytes() > 0) cache_options.page_index_bytes = budgets.page_index_bytes();
  if (budgets.page_cache_bytes() > 0) cache_options.decoded_page_bytes = budgets.page_cache_bytes();
  cache_options.index_cache_directory = absl::StrCat(policy.state_directory(), "/indexes");
  PBKFS_RETURN_IF_ERROR(MakeDirectory(cache_options.index_cache_directory));
  const std::string wal_directory = absl::StrCat(policy.state_directory(), "/wal");
  PBKFS_RETURN_IF_ERROR(MakeDirectory(wal_directory));
  ImageRegistry images(ImageCaches::Create(cache_options),
                       std::make_shared<UnpackedSegments>(wal_directory));
  CatalogLockerOptions lock_options;
  lock_options.record_path = absl::StrCat(policy.state_directory(), "/catalog-locks");
  CatalogLocker locker(lock_options);
  MountManager manager(holder, policy, images, locker, {PosixIo(), *keeper, registry});
  // First of all: databases wait for it.
  if (client != nullptr) {
    PBKFS_ASSIGN_OR_RETURN(std::vector<HeldMount> held, client->Held());
    PBKFS_RETURN_IF_ERROR(manager.Resume(std::move(held)));
    PBKFS_RETURN_IF_ERROR(client->Resumed());
  }
  locker.StartCleaningUp();
  const UniqueFd no_memory;
  const StatsSource stats(manager, figures, client == nullptr ? no_memory : client->figures());
  const auto sample_all = [&stats] { return *stats.Sample(""); };
  StatsStreams streams({[&stats](const std::string& id) { return stats.Sample(id); },
                        [&manager](const std::string& id) { return manager.Find(id) != nullptr; }},
                       figures);
  PeerTable peers;
  CallGate gate(holder, peers, figures);
  MountServiceImpl mount_service(manager, stats, streams, gate);
  CatalogServiceImpl catalog_service(policy, images, gate);
  DiffServiceImpl diff_service(policy, manager, images, PosixIo(), gate);
  HealthServiceImpl health_service(manager, &gate);
  DaemonFacts facts;
  facts.start_time = absl::Now();
  facts.build = BuildDescription();
  for (const v1::Listener& listener : start_config->listeners()) {
    facts.listen_addresses.push_back(listener.address());
  }
  facts.config_file = options.config_file;
  facts.state_directory = policy.state_directory();
  ConfiguredMounts configured_mounts(
      holder, manager, [&keeper](const auto& failed) { TellServiceManager(*keeper, failed); });
  const auto not_ready = [&manager, &configured_mounts] {
    std::vector<std::string> reasons = manager.NotReady();
    for (std::string& reason : configured_mounts.NotReady()) reasons.push_back(std::move(reason));
    return reasons;
  };
  PBKFS_ASSIGN_OR_RETURN(
      const std::unique_ptr<MetricsServer> metrics,
      StartMetrics(
          *start_config,
          {sample_all, [&manager] { return manager.ListMounts(Caller::Daemon()); }, not_ready}));
  if (metrics != nullptr) {
    const std::string address = MetricsAddress(*start_config);
    facts.metrics_address =
        absl::StrCat(address.substr(0, address.rfind(':') + 1), metrics->port());
  }
  StatsLogger stats_logger(sample_all, FromProto(start_config->stats_interval()));
  manager.StartRestoring();
  configured_mounts.Start();
  Reloader reloader(options, memory, holder, policy, stats_logger, configured_mounts);
  DaemonServiceImpl daemon_service(manager, holder, client, reloader, facts, gate);
  PBKFS_ASSIGN_OR_RETURN(const std::unique_ptr<ApiServer> server,
                         ApiServer::Start(*start_config,
                                          {&mount_service, &catalog_service, &diff_service,
                                           &daemon_service, &health_service},
                                          gate));
  reloader.SetTls([&server](const v1::DaemonConfig& next) { return server->Reload(next); });
  HealthServiceImpl probe_service(manager, nullptr);
  PBKFS_ASSIGN_OR_RETURN(const std::unique_ptr<grpc::Server> probe_server,
                         StartHealthServer(start_config->health_address(), &probe_service));
  PBKFS_ASSIGN_OR_RETURN(std::unique_ptr<Acceptor> acceptor,
                         Acceptor::Start(std::move(listeners), holder, gate, peers, *server));
  LogEvent(spdlog::level::info, "ready")
      .Field("version", PBKFS_VERSION)
      .Field("pid", static_cast<uint64_t>(getpid()))
      .Field("listen", absl::StrJoin(facts.listen_addresses, ","))
      .Field("state_dir", policy.state_directory());
  if (client != nullptr) PBKFS_RETURN_IF_ERROR(client->Ready());

  const int signal_number = WaitForStopSignal(&reloader);
  LogEvent(spdlog::level::info, "stopping").Field("signal", static_cast<uint64_t>(signal_number));
  stop_limit.emplace(kStopLimit);
  manager.StartDraining();
  for (HealthServiceImpl* health : {&health_service, &probe_service}) health->StartDraining();
  configured_mounts.Join();
  // Mounts that are in use are waited for; what is not must come to its end.
  const absl::Time patience = absl::Now() + options.stop_timeout;
  const auto hurry = [&stop_limit, patience] {
    if (AnotherStopSignal() || absl::Now() >= patience) return true;
    stop_limit->Restart();
    return false;
  };
  // Until then the API answers: what is mounted can be looked at and unmounted.
  manager.UnmountAll(hurry);
  for (HealthServiceImpl* health : {&health_service, &probe_service}) health->Stop();
  streams.Stop();
  acceptor.reset();
  server->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
  reloader.Stop();
  // Again, for the mounts that calls were at work on.
  if (!manager.UnmountAll(hurry)) {
    // Sessions that have not ended can't be waited for. The kernel ends them with the process.
    LogEvent(spdlog::level::err, "stopped").Field("mounts_left", uint64_t{manager.Mounts().size()});
    _exit(1);
  }
  if (client == nullptr) {
    for (const std::string& path : SocketPaths(*start_config)) unlink(path.c_str());
  }
  LogEvent(spdlog::level::info, "stopped");
  return absl::OkStatus();
}

}  // namespace pbkfs
