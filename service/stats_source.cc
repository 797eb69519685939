#include "service/stats_source.h"

#include <map>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "service/limits.h"
#include "service/metrics/mount_state.h"
#include "service/proto_convert.h"

namespace pbkfs {
namespace {

void FillMount(const LiveMount& mount, v1::MountStats* stats) {
  const v1::Mount description = mount.Describe();
  stats->set_mount_id(mount.id());
  stats->set_state(description.state());
  stats->set_instance(description.instance());
  stats->set_backup_id(description.backup_id());
  *stats->mutable_create_time() = description.create_time();
  if (description.has_backup_time()) {
    const absl::Time taken = absl::FromUnixSeconds(description.backup_time().seconds());
    ToProto(absl::Now() - taken, stats->mutable_backup_age());
  }
  const std::optional<MountFigures> figures = mount.Figures();
  if (!figures.has_value()) return;
  ToProto(figures->io, stats->mutable_io());
  ToProto(figures->io, stats->mutable_page_errors());
  ToProto(figures->pending, stats->mutable_pending());
  ToProto(figures->fuse, stats->mutable_fuse());
  if (figures->diff.has_value()) ToProto(*figures->diff, stats->mutable_diff());
}

void AddLatency(const std::map<std::string, FuseFigures::Latency>& latency,
                google::protobuf::Map<std::string, v1::DurationHistogram>* total) {
  for (const auto& [op, added] : latency) {
    v1::DurationHistogram durations;
    ToProto(FuseLatencyBounds(), added.buckets, added.sum_seconds, &durations);
    AddDurations(durations, &(*total)[op]);
  }
}

void FillCaches(const ImageCacheFigures& caches, v1::DaemonStats* daemon) {
  daemon->set_page_index_bytes(caches.page_index_bytes);
  daemon->set_page_index_builds(caches.page_index_builds);
  daemon->set_page_index_hits(caches.page_index_hits);
  daemon->set_page_index_misses(caches.page_index_misses);
  daemon->set_page_index_evictions(caches.page_index_evictions);
  daemon->set_page_index_scans(caches.stream_scans);
  daemon->set_page_cache_bytes(caches.decoded_page_bytes);
  daemon->set_page_cache_evictions(caches.decoded_page_evictions);
  auto& decoded = *daemon->mutable_decoded_pages();
  decoded["none"] = caches.decoded_pages_none;
  decoded["zlib"] = caches.decoded_pages_zlib;
  decoded["pglz"] = caches.decoded_pages_pglz;
  decoded["lz4"] = caches.decoded_pages_lz4;
  decoded["zstd"] = caches.decoded_pages_zstd;
}

}  // namespace

absl::StatusOr<v1::StatsResponse> StatsSource::Sample(const std::string& mount_id) const {
  v1::StatsResponse response;
  ToProto(absl::Now(), response.mutable_sampled_at());
  const MountsSnapshot mounts = FillCounters(response.mutable_daemon());
  for (const auto& mount : mounts.live) {
    if (mount_id.empty() || mount->id() == mount_id) FillMount(*mount, response.add_mounts());
  }
  if (!mount_id.empty() && response.mounts().empty()) return UnknownMount(mount_id);
  FillDaemon(mounts, response.mutable_daemon());
  return response;
}

StatsSource::StatsSource(const MountManager& manager, const RpcFigures& rpc, const UniqueFd& memory)
    : manager_(manager), rpc_(rpc), carried_(memory) {
  if (!memory.valid()) return;
  keeper_ = std::thread([this] {
    while (next_.WaitFor(kKeepFiguresPeriod)) Keep();
  });
}

StatsSource::~StatsSource() {
  next_.Stop();
  if (keeper_.joinable()) keeper_.join();
}

void StatsSource::Keep() const {
  v1::DaemonStats daemon;
  FillCounters(&daemon);
}

MountsSnapshot StatsSource::FillCounters(v1::DaemonStats* daemon) const {
  // Held until they are kept, so that what is kept does not go back.
  MutexLock lock(&mutex_);
  MountsSnapshot mounts = manager_.Snapshot();
  FillCaches(manager_.CacheFigures(), daemon);
  // Of the mounts that are gone: those of the others are carried with the mounts.
  AddLatency(mounts.retired_latency, daemon->mutable_fuse_request_durations());
  ToProto(mounts.mount_durations, daemon->mutable_mount_durations());
  const RpcFigures::Snapshot calls = rpc_.Get();
  for (const auto& [call, count] : calls.requests) {
    (*daemon->mutable_rpc_requests())[absl::StrCat(call.first, "/", call.second)] = count;
  }
  for (const auto& [method, durations] : calls.durations) {
    ToProto(durations, &(*daemon->mutable_rpc_durations())[method]);
  }
  carried_.AddEarlier(daemon);
  return mounts;
}

void StatsSource::FillDaemon(const MountsSnapshot& mounts, v1::DaemonStats* daemon) const {
  daemon->set_version(PBKFS_VERSION);
  daemon->set_worker_restarts(manager_.WorkerRestarts());
  ToProto(manager_.Uptime(), daemon->mutable_uptime());
  daemon->set_mounts(mounts.live.size());
  // All states are always there, so that a graph shows a zero and not a gap.
  auto& states = *daemon->mutable_mounts_by_state();
  for (const char* state : {"creating", "active", "draining", "failed"}) states[state] = 0;
  states["creating"] = mounts.creating;
  for (const auto& mount : mounts.live) {
    ++states[std::string(StateName(mount->Describe().state()))];
    AddLatency(mount->FuseLatency(), daemon->mutable_fuse_request_durations());
  }
}

}  // namespace pbkfs
