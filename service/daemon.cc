#include "service/daemon.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "fs/base/io.h"
#include "fs/base/status.h"
#include "fs/image/image.h"
#include "service/catalog_lock.h"
#include "service/config_holder.h"
#include "service/configuration.h"
#include "service/front.h"
#include "service/image_registry.h"
#include "service/keeper/mount_keeper.h"
#include "service/keeper/unix_socket.h"
#include "service/limits.h"
#include "service/logging.h"
#include "service/mount_manager.h"
#include "service/mount_registry.h"
#include "service/path_policy.h"
#include "service/stop_limit.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

sigset_t DaemonSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  return signals;
}

int WaitForStopSignal(Front* front) {
  const sigset_t signals = DaemonSignals();
  while (true) {
    int signal_number = 0;
    if (sigwait(&signals, &signal_number) != 0) continue;
    if (signal_number != SIGHUP) return signal_number;
    front->RequestReload();
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

struct KeeperSide {
  std::unique_ptr<MountKeeper> keeper;
  KeeperClient* client = nullptr;  // The same, where it is another process.
  std::vector<UniqueFd> listeners;
};

absl::StatusOr<KeeperSide> FindKeeper(const DaemonOptions& options,
                                      const v1::DaemonConfig& config) {
  KeeperSide side;
  if (options.worker_socket < 0) {
    side.keeper = MakeOwnKeeper();
    PBKFS_ASSIGN_OR_RETURN(side.listeners, Listen(config));
    return side;
  }
  PBKFS_ASSIGN_OR_RETURN(std::unique_ptr<KeeperClient> client,
                         KeeperClient::Connect(UniqueFd(options.worker_socket)));
  side.client = client.get();
  side.listeners = client->TakeListeners();
  side.keeper = std::move(client);
  return side;
}

absl::StatusOr<std::unique_ptr<PathPolicy>> MakePathPolicy(const v1::DaemonConfig& config) {
  PBKFS_RETURN_IF_ERROR(MakeDirectory(absl::StrCat(config.state_directory(), "/diffs")));
  return PathPolicy::Create({config.allow_root().begin(), config.allow_root().end()},
                            config.state_directory());
}

absl::StatusOr<std::unique_ptr<ImageRegistry>> MakeImages(const v1::Budgets& budgets,
                                                          const std::string& state_directory) {
  ImageCacheOptions options;
  if (budgets.page_index_bytes() > 0) options.page_index_bytes = budgets.page_index_bytes();
  if (budgets.page_cache_bytes() > 0) options.decoded_page_bytes = budgets.page_cache_bytes();
  options.index_cache_directory = absl::StrCat(state_directory, "/indexes");
  PBKFS_RETURN_IF_ERROR(MakeDirectory(options.index_cache_directory));
  const std::string wal_directory = absl::StrCat(state_directory, "/wal");
  PBKFS_RETURN_IF_ERROR(MakeDirectory(wal_directory));
  return std::make_unique<ImageRegistry>(ImageCaches::Create(options),
                                         std::make_shared<UnpackedSegments>(wal_directory));
}

// `status`, where no session goes on. Destructors would wait for those that do.
absl::Status LeaveSessions(bool resumed, absl::Status status) {
  if (!resumed) return status;
  spdlog::critical("the worker can't go on: {}", std::string(status.message()));
  spdlog::default_logger()->flush();
  _exit(1);
}

// Serves until a stop signal, and unmounts.
void ServeUntilStopped(const DaemonOptions& options, MountManager& manager, Front& front,
                       std::optional<StopLimit>* stop_limit) {
  const int signal_number = WaitForStopSignal(&front);
  LogEvent(spdlog::level::info, "stopping").Field("signal", static_cast<uint64_t>(signal_number));
  stop_limit->emplace(kStopLimit);
  manager.StartDraining();
  front.StartDraining();
  // Mounts that are in use are waited for; what is not must come to its end.
  const absl::Time patience = absl::Now() + options.stop_timeout;
  const auto hurry = [stop_limit, patience] {
    if (AnotherStopSignal() || absl::Now() >= patience) return true;
    (*stop_limit)->Restart();
    return false;
  };
  // Until then the API answers: what is mounted can be looked at and unmounted.
  manager.UnmountAll(hurry);
  front.Stop();
  // Again, for the mounts that calls were at work on.
  if (!manager.UnmountAll(hurry)) {
    // Sessions that have not ended can't be waited for. The kernel ends them with the process.
    LogEvent(spdlog::level::err, "stopped").Field("mounts_left", uint64_t{manager.Mounts().size()});
    _exit(1);
  }
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
  PBKFS_ASSIGN_OR_RETURN(KeeperSide side, FindKeeper(options, *start_config));
  PBKFS_ASSIGN_OR_RETURN(const std::unique_ptr<PathPolicy> policy, MakePathPolicy(*start_config));
  const std::string& state_directory = policy->state_directory();
  PBKFS_ASSIGN_OR_RETURN(const MountRegistry registry, MountRegistry::Open(state_directory));
  std::optional<StopLimit> stop_limit;
  // Destroyed in reverse: first what listens, then what it calls.
  PBKFS_ASSIGN_OR_RETURN(const std::unique_ptr<ImageRegistry> images,
                         MakeImages(start_config->budgets(), state_directory));
  CatalogLockerOptions lock_options;
  lock_options.record_path = absl::StrCat(state_directory, "/catalog-locks");
  CatalogLocker locker(lock_options);
  MountManager manager(holder, *policy, *images, locker, {PosixIo(), *side.keeper, registry});
  // First of all: databases wait for it.
  bool resumed = false;
  if (side.client != nullptr) {
    PBKFS_ASSIGN_OR_RETURN(std::vector<HeldMount> held, side.client->Held());
    resumed = !held.empty();
    absl::Status status = manager.Resume(std::move(held));
    if (status.ok()) status = side.client->Resumed();
    if (!status.ok()) return LeaveSessions(resumed, std::move(status));
  }
  locker.StartCleaningUp();
  Front front(options, memory, holder, *policy, *images, manager, {*side.keeper, side.client});
  absl::Status started = front.Start(std::move(side.listeners), resumed);
  if (started.ok() && side.client != nullptr) started = side.client->Ready();
  if (!started.ok()) return LeaveSessions(resumed, std::move(started));
  ServeUntilStopped(options, manager, front, &stop_limit);
  if (side.client == nullptr) {
    for (const std::string& path : SocketPaths(*start_config)) unlink(path.c_str());
  }
  LogEvent(spdlog::level::info, "stopped");
  return absl::OkStatus();
}

}  // namespace pbkfs
