#include "service/mount_service.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "fs/base/status.h"
#include "service/rpc_call.h"

namespace pbkfs {
namespace {

// Moves the value of `result`, if there is one, to where gRPC wants it.
template <typename T>
absl::Status Take(absl::StatusOr<T> result, T* response) {
  if (result.ok()) *response = *std::move(result);
  return result.status();
}

}  // namespace

MountServiceImpl::MountServiceImpl(MountManager& manager, const StatsSource& stats,
                                   StatsStreams& streams, CallGate& gate)
    : manager_(manager), stats_(stats), streams_(streams), gate_(gate) {}

grpc::Status MountServiceImpl::Mount(grpc::ServerContext* context, const v1::MountRequest* request,
                                     v1::Mount* response) {
  RpcCall call(gate_, *context, "MountService.Mount", request->validate_only() ? nullptr : request);
  return call.Run([&](const Caller& caller) {
    const auto cancelled = [context] { return context->IsCancelled(); };
    return Take(manager_.Mount(*request, caller, cancelled), response);
  });
}

grpc::Status MountServiceImpl::Unmount(grpc::ServerContext* context,
                                       const v1::UnmountRequest* request,
                                       v1::UnmountResponse* response) {
  RpcCall call(gate_, *context, "MountService.Unmount", request);
  const auto cancelled = [context] { return context->IsCancelled(); };
  return call.Run([&](const Caller& caller) {
    const absl::Status done = Take(manager_.Unmount(*request, caller, cancelled), response);
    // What the mount has done counts for the daemon from now on.
    stats_.Keep();
    return done;
  });
}

grpc::Status MountServiceImpl::Stats(grpc::ServerContext* context, const v1::StatsRequest* request,
                                     v1::StatsResponse* response) {
  RpcCall call(gate_, *context, "MountService.Stats", nullptr);
  return call.Run([&](const Caller& caller) {
    PBKFS_RETURN_IF_ERROR(manager_.CheckOwns(caller, request->mount_id()));
    PBKFS_RETURN_IF_ERROR(Take(stats_.Sample(request->mount_id()), response));
    manager_.KeepOwned(caller, response);
    return absl::OkStatus();
  });
}

grpc::Status MountServiceImpl::GetMount(grpc::ServerContext* context,
                                        const v1::GetMountRequest* request, v1::Mount* response) {
  RpcCall call(gate_, *context, "MountService.GetMount", nullptr);
  return call.Run([&](const Caller& caller) {
    PBKFS_RETURN_IF_ERROR(manager_.CheckOwns(caller, request->mount_id()));
    return Take(manager_.GetMount(request->mount_id()), response);
  });
}

grpc::Status MountServiceImpl::ListMounts(grpc::ServerContext* context,
                                          const v1::ListMountsRequest*,
                                          v1::ListMountsResponse* response) {
  RpcCall call(gate_, *context, "MountService.ListMounts", nullptr);
  return call.Run([&](const Caller& caller) {
    *response = manager_.ListMounts(caller);
    return absl::OkStatus();
  });
}

grpc::ServerWriteReactor<v1::StatsResponse>* MountServiceImpl::WatchStats(
    grpc::CallbackServerContext* context, const v1::WatchStatsRequest* request) {
  absl::StatusOr<CallGate::Ticket> entered = gate_.Enter(gate_.PeerOf(*context));
  if (!entered.ok()) return streams_.Refuse(entered.status());
  if (absl::Status owns = manager_.CheckOwns(entered->caller(), request->mount_id()); !owns.ok()) {
    return streams_.Refuse(owns);
  }
  // The stream counts as a call until its filter goes with it. Each sample is judged by the
  // configuration of its time.
  const auto ticket = std::make_shared<const CallGate::Ticket>(*std::move(entered));
  const std::string mount_id = request->mount_id();
  return streams_.Watch(*request, [this, ticket, mount_id](v1::StatsResponse* response) {
    PBKFS_ASSIGN_OR_RETURN(const Caller caller, gate_.Admit(ticket->caller().peer()));
    PBKFS_RETURN_IF_ERROR(manager_.CheckOwns(caller, mount_id));
    manager_.KeepOwned(caller, response);
    return absl::OkStatus();
  });
}

}  // namespace pbkfs
