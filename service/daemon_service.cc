#include "service/daemon_service.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/session/fuse_session.h"
#include "google/protobuf/stubs/common.h"
#include "grpcpp/grpcpp.h"
#include "service/limits.h"
#include "service/logging.h"
#include "service/rpc_call.h"
#include "service/utf8.h"

namespace pbkfs {

std::string BuildDescription() {
#ifdef __clang__
  constexpr char kCompiler[] = "";  // Its version begins with its name.
#else
  constexpr char kCompiler[] = "gcc ";
#endif
  return absl::StrCat(kCompiler, __VERSION__, ", ", PBKFS_BUILD_TYPE, ", libfuse ",
                      FuseSession::LibraryVersion(), ", gRPC ", grpc::Version(), ", protobuf ",
                      google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION));
}

DaemonServiceImpl::DaemonServiceImpl(const MountManager& manager, const ConfigHolder& config,
                                     KeeperClient* keeper, Reloader& reloader, DaemonFacts facts,
                                     CallGate& gate)
    : manager_(manager),
      config_(config),
      keeper_(keeper),
      reloader_(reloader),
      facts_(std::move(facts)),
      gate_(gate) {}

v1::DaemonStatus DaemonServiceImpl::Status() const {
  v1::DaemonStatus status = DescribeDaemon(facts_, *config_.Get(), manager_);
  if (keeper_ != nullptr) {
    status.set_keeper_pid(static_cast<uint32_t>(getppid()));
    const absl::StatusOr<std::string> upgrade = keeper_->LastUpgrade();
    status.set_last_upgrade(upgrade.ok() ? *upgrade : std::string(upgrade.status().message()));
  }
  return status;
}

grpc::Status DaemonServiceImpl::GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest*,
                                          v1::DaemonStatus* response) {
  RpcCall call(gate_, *context, "DaemonService.GetStatus", nullptr);
  return call.Run([&](const Caller&) {
    *response = Status();
    return absl::OkStatus();
  });
}

grpc::Status DaemonServiceImpl::Reload(grpc::ServerContext* context,
                                       const v1::ReloadRequest* request,
                                       v1::ReloadResponse* response) {
  RpcCall call(gate_, *context, "DaemonService.Reload", request);
  return call.Run([&](const Caller& caller) {
    PBKFS_RETURN_IF_ERROR(caller.CheckAdministrator("Reload"));
    PBKFS_ASSIGN_OR_RETURN(*response, reloader_.Reload());
    return absl::OkStatus();
  });
}

grpc::Status DaemonServiceImpl::Upgrade(grpc::ServerContext* context,
                                        const v1::UpgradeRequest* request,
                                        v1::UpgradeResponse* response) {
  RpcCall call(gate_, *context, "DaemonService.Upgrade", request);
  return call.Run([&](const Caller& caller) {
    PBKFS_RETURN_IF_ERROR(caller.CheckAdministrator("Upgrade"));
    response->set_old_version(PBKFS_VERSION);
    response->set_old_worker_pid(static_cast<uint32_t>(getpid()));
    if (keeper_ != nullptr) return keeper_->Upgrade();
    return ReasonError(absl::StatusCode::kFailedPrecondition, reason::kNoKeeper,
                       "the daemon serves without a keeper (--no-keeper), so that its mounts end "
                       "with it; stop it, and start the new program");
  });
}

grpc::Status DaemonServiceImpl::DebugDump(grpc::ServerContext* context,
                                          const v1::DebugDumpRequest* request,
                                          v1::DebugDumpResponse* response) {
  RpcCall call(gate_, *context, "DaemonService.DebugDump", nullptr);
  const uint32_t lines = request->log_lines() == 0 ? kDefaultDumpLogLines : request->log_lines();
  return call.Run([&](const Caller& caller) {
    PBKFS_RETURN_IF_ERROR(caller.CheckAdministrator("DebugDump"));
    response->set_text(ToUtf8(DebugText(Status(), manager_, ProcessRecentLog(), lines)));
    return absl::OkStatus();
  });
}

grpc::Status DaemonServiceImpl::SetLogLevel(grpc::ServerContext* context,
                                            const v1::SetLogLevelRequest* request,
                                            v1::SetLogLevelResponse* response) {
  RpcCall call(gate_, *context, "DaemonService.SetLogLevel", request);
  return call.Run([&](const Caller& caller) {
    PBKFS_RETURN_IF_ERROR(caller.CheckAdministrator("SetLogLevel"));
    response->set_previous(LogLevel());
    return pbkfs::SetLogLevel(request->level());
  });
}

}  // namespace pbkfs
