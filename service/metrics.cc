#include "service/metrics.h"

#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "service/metric_families.h"
#include "service/proto_convert.h"

namespace pbkfs {
namespace {

using Labels = MetricFamilies::Labels;
using LatencyByOp = std::map<std::string, FuseFigures::Latency>;

double AsDouble(uint64_t value) { return static_cast<double>(value); }

void AddIo(const std::string& mount, const IoSnapshot& io, MetricFamilies* out) {
  const Labels labels = {{"mount", mount}};
  const auto value = [&io](IoCounter counter) { return AsDouble(io[counter]); };
  constexpr char kRead[] = "pbkfs_overlay_read_bytes_total";
  constexpr char kReadHelp[] = "Bytes answered to reads, by where they came from.";
  out->Counter(kRead, kReadHelp, {{"mount", mount}, {"source", "diff"}},
               value(IoCounter::kReadBytesDiff));
  out->Counter(kRead, kReadHelp, {{"mount", mount}, {"source", "backup"}},
               value(IoCounter::kReadBytesBackup));
  out->Counter(kRead, kReadHelp, {{"mount", mount}, {"source", "zero"}},
               value(IoCounter::kReadBytesZero));
  out->Counter("pbkfs_overlay_written_bytes_total", "Bytes that applications wrote.", labels,
               value(IoCounter::kWrittenBytes));
  constexpr char kCopied[] = "pbkfs_overlay_blocks_copied_total";
  constexpr char kCopiedHelp[] = "Blocks copied from the backup into the diff.";
  out->Counter(kCopied, kCopiedHelp, {{"mount", mount}, {"reason", "write"}},
               value(IoCounter::kBlocksCopied));
  out->Counter(kCopied, kCopiedHelp, {{"mount", mount}, {"reason", "fill"}},
               value(IoCounter::kFillsDone));
  for (const auto& [result, counter] : kFillResults) {
    out->Counter("pbkfs_fills_total",
                 "Blocks that materialize_on_read offered, by what became of them.",
                 {{"mount", mount}, {"result", result}}, value(counter));
  }
  out->Counter("pbkfs_handle_hits_total", "I/O that found its backing file open.", labels,
               value(IoCounter::kHandleHits));
  out->Counter("pbkfs_handle_misses_total", "I/O that had to open its backing file.", labels,
               value(IoCounter::kHandleMisses));
  const double opened = value(IoCounter::kHandlesOpened);
  const double closed = value(IoCounter::kHandlesClosed);
  out->Gauge("pbkfs_handles_open", "Backing files that are open.", labels,
             opened > closed ? opened - closed : 0);
  out->Counter("pbkfs_page_cache_hits_total", "Decoded pages found in the cache.", labels,
               value(IoCounter::kCacheHits));
  out->Counter("pbkfs_page_cache_misses_total", "Decoded pages that had to be decoded.", labels,
               value(IoCounter::kCacheMisses));
  constexpr char kErrors[] = "pbkfs_page_errors_total";
  constexpr char kErrorsHelp[] = "Pages of the backup that could not be served.";
  out->Counter(kErrors, kErrorsHelp, {{"mount", mount}, {"kind", "checksum"}},
               value(IoCounter::kPageErrorsChecksum));
  out->Counter(kErrors, kErrorsHelp, {{"mount", mount}, {"kind", "format"}},
               value(IoCounter::kPageErrorsFormat));
  out->Counter(kErrors, kErrorsHelp, {{"mount", mount}, {"kind", "io"}},
               value(IoCounter::kPageErrorsIo));
}

void AddPending(const std::string& mount, const PendingFigures& pending, MetricFamilies* out) {
  const Labels labels = {{"mount", mount}};
  out->Gauge("pbkfs_pending_operations", "Operations that are ordered or waiting.", labels,
             AsDouble(pending.operations));
  out->Gauge("pbkfs_pending_inodes", "Files with operations that are ordered.", labels,
             AsDouble(pending.inodes));
  out->Histogram("pbkfs_pending_wait_seconds", "How long operations waited for earlier ones.",
                 labels, kWaitBounds, pending.wait_buckets,
                 static_cast<double>(pending.wait_nanoseconds) / 1e9);
}

void AddFuse(const std::string& mount, const FuseFigures& fuse, MetricFamilies* out) {
  const Labels labels = {{"mount", mount}};
  for (const auto& [op, count] : fuse.requests) {
    out->Counter("pbkfs_fuse_requests_total", "Requests of the kernel.",
                 {{"mount", mount}, {"op", op}}, AsDouble(count));
  }
  for (const auto& [key, count] : fuse.errors) {
    const char* name = strerrorname_np(key.second);
    out->Counter(
        "pbkfs_fuse_request_errors_total", "Requests that were answered with an error.",
        {{"mount", mount}, {"op", key.first}, {"errno", name == nullptr ? "UNKNOWN" : name}},
        AsDouble(count));
  }
  out->Counter("pbkfs_requests_resent_total",
               "Requests that the kernel sent again after a worker had died.", labels,
               AsDouble(fuse.resent));
  out->Gauge("pbkfs_fuse_inflight_requests", "Requests that have no answer yet.", labels,
             AsDouble(fuse.inflight));
  out->Gauge("pbkfs_fuse_oldest_request_age_seconds", "Age of the oldest of them.", labels,
             absl::ToDoubleSeconds(fuse.oldest_age));
}

void AddDiff(const std::string& mount, const DiffFigures& diff, MetricFamilies* out) {
  const Labels labels = {{"mount", mount}};
  out->Gauge("pbkfs_diff_bytes", "Bytes that the diff takes on the disk.", labels,
             static_cast<double>(diff.diff_bytes));
  out->Gauge("pbkfs_diff_fs_free_bytes", "Free bytes of the diff's file system.", labels,
             static_cast<double>(diff.fs_free_bytes));
  out->Gauge("pbkfs_metalog_bytes", "Bytes of the diff's log.", labels,
             static_cast<double>(diff.metalog_bytes));
}

void AddMount(const LiveMount& mount, std::map<std::string, int>* states, LatencyByOp* latency,
              MetricFamilies* out) {
  const v1::Mount description = mount.Describe();
  ++(*states)[std::string(StateName(description.state()))];
  const std::optional<MountFigures> figures = mount.Figures();
  if (!figures.has_value()) return;
  out->Gauge("pbkfs_mount_info", "What is mounted; always 1.",
             {{"mount", mount.id()},
              {"instance", description.instance()},
              {"backup", description.backup_id()}},
             1);
  if (description.has_backup_time()) {
    const absl::Time taken = absl::FromUnixSeconds(description.backup_time().seconds());
    out->Gauge("pbkfs_mount_backup_age_seconds", "Time since the backup became consistent.",
               {{"mount", mount.id()}}, absl::ToDoubleSeconds(absl::Now() - taken));
  }
  AddIo(mount.id(), figures->io, out);
  AddPending(mount.id(), figures->pending, out);
  AddFuse(mount.id(), figures->fuse, out);
  if (figures->diff.has_value()) AddDiff(mount.id(), *figures->diff, out);
  for (const auto& [op, added] : figures->fuse.latency) {
    FuseFigures::Latency& total = (*latency)[op];
    total.buckets.resize(added.buckets.size());
    for (size_t i = 0; i < added.buckets.size(); ++i) total.buckets[i] += added.buckets[i];
    total.sum_seconds += added.sum_seconds;
  }
}

void AddDaemon(const MountManager& manager, const RpcFigures& rpc, MetricFamilies* out) {
  out->Gauge("pbkfs_build_info", "Version of the daemon; always 1.", {{"version", PBKFS_VERSION}},
             1);
  out->Counter("pbkfs_worker_restarts_total", "Workers that died and were replaced.", {},
               AsDouble(manager.WorkerRestarts()));
  const ImageCacheFigures caches = manager.CacheFigures();
  out->Gauge("pbkfs_page_index_bytes", "Bytes of page indexes in memory.", {},
             static_cast<double>(caches.page_index_bytes));
  out->Counter("pbkfs_page_index_builds_total", "Page indexes that were built.", {},
               AsDouble(caches.page_index_builds));
  constexpr char kDecoded[] = "pbkfs_decoded_pages_total";
  constexpr char kDecodedHelp[] = "Pages decoded from backups.";
  out->Counter(kDecoded, kDecodedHelp, {{"codec", "none"}}, AsDouble(caches.decoded_pages_none));
  out->Counter(kDecoded, kDecodedHelp, {{"codec", "zlib"}}, AsDouble(caches.decoded_pages_zlib));
  out->Counter(kDecoded, kDecodedHelp, {{"codec", "pglz"}}, AsDouble(caches.decoded_pages_pglz));
  out->Counter(kDecoded, kDecodedHelp, {{"codec", "lz4"}}, AsDouble(caches.decoded_pages_lz4));
  out->Counter(kDecoded, kDecodedHelp, {{"codec", "zstd"}}, AsDouble(caches.decoded_pages_zstd));
  out->Counter("pbkfs_page_index_hits_total", "Page indexes that were found in memory.", {},
               AsDouble(caches.page_index_hits));
  out->Counter("pbkfs_page_index_misses_total", "Page indexes that were not in memory.", {},
               AsDouble(caches.page_index_misses));
  out->Counter("pbkfs_page_index_evictions_total", "Page indexes that were dropped for space.", {},
               AsDouble(caches.page_index_evictions));
  out->Counter("pbkfs_page_index_scans_total",
               "Stored files that were read whole for want of a usable header map.", {},
               AsDouble(caches.stream_scans));
  out->Gauge("pbkfs_page_cache_bytes", "Bytes of decoded pages in memory.", {},
             static_cast<double>(caches.decoded_page_bytes));
  out->Counter("pbkfs_page_cache_evictions_total", "Decoded pages that were dropped for space.", {},
               AsDouble(caches.decoded_page_evictions));
  const RpcFigures::Snapshot calls = rpc.Get();
  for (const auto& [key, count] : calls.requests) {
    out->Counter("pbkfs_rpc_requests_total", "Calls of the API.",
                 {{"method", key.first}, {"code", key.second}}, AsDouble(count));
  }
  for (const auto& [method, histogram] : calls.durations) {
    out->Histogram("pbkfs_rpc_duration_seconds", "How long calls of the API took.",
                   {{"method", method}}, Histogram::kBounds, histogram.buckets,
                   histogram.sum_seconds);
  }
  const Histogram durations = manager.MountDurations();
  out->Histogram("pbkfs_mount_duration_seconds", "How long mounts took to make.", {},
                 Histogram::kBounds, durations.buckets, durations.sum_seconds);
}

}  // namespace

std::vector<prometheus::MetricFamily> MetricsCollector::Collect() const {
  MetricFamilies out;
  AddDaemon(manager_, rpc_, &out);
  // All states are always there, so that a graph shows a zero and not a gap.
  std::map<std::string, int> states = {
      {"creating", 0}, {"active", 0}, {"draining", 0}, {"failed", 0}};
  LatencyByOp latency = manager_.RetiredLatency();
  for (const auto& mount : manager_.Mounts()) AddMount(*mount, &states, &latency, &out);
  for (const auto& [state, count] : states) {
    out.Gauge("pbkfs_mounts", "Mounts by state.", {{"state", state}}, count);
  }
  for (const auto& [op, figures] : latency) {
    out.Histogram("pbkfs_fuse_request_duration_seconds", "How long requests took to answer.",
                  {{"op", op}}, FuseLatencyBounds(), figures.buckets, figures.sum_seconds);
  }
  return out.Take();
}

}  // namespace pbkfs
