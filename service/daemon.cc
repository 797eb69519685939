#include "service/daemon.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "fs/base/io.h"
#include "fs/base/mutex.h"
#include "fs/base/status.h"
#include "fs/image/image.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "service/catalog_lock.h"
#include "service/catalog_service.h"
#include "service/diff_service.h"
#include "service/health_service.h"
#include "service/image_registry.h"
#include "service/limits.h"
#include "service/logging.h"
#include "service/metrics.h"
#include "service/metrics_server.h"
#include "service/mount_manager.h"
#include "service/mount_service.h"
#include "service/path_policy.h"
#include "service/stats_logger.h"
#include "service/unix_socket.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

constexpr mode_t kSocketMode = 0660;

absl::Status MakeDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  return ErrnoError(errno,
                    absl::StrCat("making ", path, " (choose another place with --state-dir)"));
}

absl::StatusOr<std::unique_ptr<grpc::Server>> StartServer(
    const DaemonOptions& options, const std::vector<grpc::Service*>& services) {
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  // Two daemons must never share a socket.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  for (const std::string& path : options.listen_paths) {
    PBKFS_RETURN_IF_ERROR(PrepareSocketPath(path));
    builder.AddListeningPort(absl::StrCat("unix:", path), grpc::InsecureServerCredentials());
  }
  for (grpc::Service* service : services) builder.RegisterService(service);
  // The socket never exists with wider permissions, not even for a moment.
  const mode_t umask_before = umask(0777 & ~kSocketMode);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  umask(umask_before);
  if (server == nullptr) {
    return absl::UnavailableError(absl::StrCat("can't listen on ",
                                               absl::StrJoin(options.listen_paths, ", "),
                                               "; choose another path with --listen unix:PATH"));
  }
  for (const std::string& path : options.listen_paths) {
    if (chmod(path.c_str(), kSocketMode) != 0) return ErrnoError(errno, path);
  }
  return server;
}

absl::StatusOr<std::unique_ptr<MetricsServer>> StartMetrics(const DaemonOptions& options,
                                                            const MetricsCollector& collector) {
  if (options.metrics_address.empty()) return nullptr;
  absl::StatusOr<std::unique_ptr<MetricsServer>> server =
      MetricsServer::Start(options.metrics_address, collector);
  if (server.ok()) {
    LogEvent(spdlog::level::info, "metrics")
        .Field("address", options.metrics_address)
        .Field("port", static_cast<uint64_t>((*server)->port()));
    return server;
  }
  if (options.metrics_required) return server.status();
  // The default address was nobody's wish: mounts are worth more than their figures.
  spdlog::error("{}; going on without metrics", std::string(server.status().message()));
  return nullptr;
}

// Ends the process if it is not destroyed in time.
class StopLimit {
 public:
  explicit StopLimit(absl::Duration limit)
      : watch_([this, deadline = absl::Now() + limit] { Watch(deadline); }) {}
  ~StopLimit() {
    {
      MutexLock lock(&mutex_);
      stopped_ = true;
      changed_.SignalAll();
    }
    watch_.join();
  }

 private:
  void Watch(absl::Time deadline) {
    MutexLock lock(&mutex_);
    while (!stopped_) {
      const absl::Duration rest = deadline - absl::Now();
      if (rest <= absl::ZeroDuration()) {
        spdlog::error(
            "a mount or a call does not come to its end: the daemon ends without it; diffs are "
            "recovered when they are mounted again");
        _exit(1);
      }
      changed_.WaitFor(&mutex_, absl::ToChronoMilliseconds(rest));
    }
  }

  Mutex mutex_;
  CondVar changed_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread watch_;  // The last: it uses the others.
};

}  // namespace

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

void BlockStopSignals() {
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

absl::Status RunDaemon(const DaemonOptions& options) {
  PBKFS_RETURN_IF_ERROR(MakeDirectory(options.state_directory));
  PBKFS_RETURN_IF_ERROR(MakeDirectory(absl::StrCat(options.state_directory, "/diffs")));
  PBKFS_ASSIGN_OR_RETURN(const PathPolicy policy,
                         PathPolicy::Create(options.allowed_roots, options.state_directory));
  std::optional<StopLimit> stop_limit;
  // Destroyed in reverse: first what listens, then what it calls.
  RpcFigures figures;
  ImageCacheOptions cache_options;
  cache_options.index_cache_directory = absl::StrCat(policy.state_directory(), "/indexes");
  PBKFS_RETURN_IF_ERROR(MakeDirectory(cache_options.index_cache_directory));
  const std::string wal_directory = absl::StrCat(policy.state_directory(), "/wal");
  PBKFS_RETURN_IF_ERROR(MakeDirectory(wal_directory));
  ImageRegistry images(ImageCaches::Create(cache_options),
                       std::make_shared<UnpackedSegments>(wal_directory));
  CatalogLockerOptions lock_options;
  lock_options.record_path = absl::StrCat(policy.state_directory(), "/catalog-locks");
  CatalogLocker locker(lock_options);
  locker.CleanUpLeftovers();
  MountManager manager(policy, images, locker, PosixIo());
  MountServiceImpl mount_service(manager, figures);
  CatalogServiceImpl catalog_service(policy, images, figures);
  DiffServiceImpl diff_service(policy, manager, images, PosixIo(), figures);
  HealthServiceImpl health_service(manager);
  const MetricsCollector collector(manager, figures);
  PBKFS_ASSIGN_OR_RETURN(const std::unique_ptr<MetricsServer> metrics,
                         StartMetrics(options, collector));
  PBKFS_ASSIGN_OR_RETURN(
      const std::unique_ptr<grpc::Server> server,
      StartServer(options, {&mount_service, &catalog_service, &diff_service, &health_service}));
  const auto stats_logger = std::make_unique<StatsLogger>(manager, options.stats_interval);
  LogEvent(spdlog::level::info, "ready")
      .Field("version", PBKFS_VERSION)
      .Field("pid", static_cast<uint64_t>(getpid()))
      .Field("listen", absl::StrJoin(options.listen_paths, ","))
      .Field("state_dir", policy.state_directory());

  const sigset_t signals = StopSignals();
  int signal_number = 0;
  while (sigwait(&signals, &signal_number) != 0) {
  }
  LogEvent(spdlog::level::info, "stopping").Field("signal", static_cast<uint64_t>(signal_number));
  stop_limit.emplace(absl::FromChrono(kStopLimit));
  manager.StartDraining();
  health_service.Stop();
  server->Shutdown(absl::ToChronoTime(absl::Now() + absl::FromChrono(kShutdownGrace)));
  server->Wait();
  if (!manager.UnmountAll()) {
    // Sessions that have not ended can't be waited for. The kernel ends them with the process.
    LogEvent(spdlog::level::err, "stopped").Field("mounts_left", uint64_t{manager.Mounts().size()});
    _exit(1);
  }
  LogEvent(spdlog::level::info, "stopped");
  return absl::OkStatus();
}

}  // namespace pbkfs
