#include "service/mount_service.h"

#include <utility>

#include "absl/status/statusor.h"
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
                                   StatsStreams& streams, RpcFigures& figures)
    : manager_(manager), stats_(stats), streams_(streams), figures_(figures) {}

grpc::Status MountServiceImpl::Mount(grpc::ServerContext* context, const v1::MountRequest* request,
                                     v1::Mount* response) {
  RpcCall call(figures_, *context, "MountService.Mount",
               request->validate_only() ? nullptr : request);
  return call.Finish(
      Take(manager_.Mount(*request, [context] { return context->IsCancelled(); }), response));
}

grpc::Status MountServiceImpl::Unmount(grpc::ServerContext* context,
                                       const v1::UnmountRequest* request,
                                       v1::UnmountResponse* response) {
  RpcCall call(figures_, *context, "MountService.Unmount", request);
  return call.Finish(
      Take(manager_.Unmount(*request, [context] { return context->IsCancelled(); }), response));
}

grpc::Status MountServiceImpl::Stats(grpc::ServerContext* context, const v1::StatsRequest* request,
                                     v1::StatsResponse* response) {
  RpcCall call(figures_, *context, "MountService.Stats", nullptr);
  return call.Finish(Take(stats_.Sample(request->mount_id()), response));
}

grpc::Status MountServiceImpl::GetMount(grpc::ServerContext* context,
                                        const v1::GetMountRequest* request, v1::Mount* response) {
  RpcCall call(figures_, *context, "MountService.GetMount", nullptr);
  return call.Finish(Take(manager_.GetMount(request->mount_id()), response));
}

grpc::Status MountServiceImpl::ListMounts(grpc::ServerContext* context,
                                          const v1::ListMountsRequest*,
                                          v1::ListMountsResponse* response) {
  RpcCall call(figures_, *context, "MountService.ListMounts", nullptr);
  *response = manager_.ListMounts();
  return call.Finish(absl::OkStatus());
}

grpc::ServerWriteReactor<v1::StatsResponse>* MountServiceImpl::WatchStats(
    grpc::CallbackServerContext*, const v1::WatchStatsRequest* request) {
  return streams_.Watch(*request);
}

}  // namespace pbkfs
