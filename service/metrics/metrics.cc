#include "service/metrics/metrics.h"

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "service/metrics/metric_families.h"

namespace pbkfs {
namespace {

using Labels = MetricFamilies::Labels;
using Counts = google::protobuf::Map<std::string, uint64_t>;

double AsDouble(uint64_t value) { return static_cast<double>(value); }
double AsDouble(int64_t value) { return static_cast<double>(value); }
double Seconds(const google::protobuf::Duration& duration) {
  return AsDouble(int64_t{duration.seconds()}) + 1e-9 * duration.nanos();
}

Labels With(Labels labels, const char* name, const std::string& value) {
  labels.emplace_back(name, value);
  return labels;
}

// Maps of protobuf have no order; two scrapes shall look alike.
template <typename Map>
auto Sorted(const Map& map) {
  return std::map<typename Map::key_type, typename Map::mapped_type>(map.begin(), map.end());
}

// A counter for each entry; the keys are the values of the label.
void AddCounts(const char* name, const char* help, const Labels& labels, const char* label,
               const Counts& counts, MetricFamilies* out) {
  for (const auto& [key, count] : Sorted(counts)) {
    out->Counter(name, help, With(labels, label, key), AsDouble(count));
  }
}

// Keys are "first/second": the values of two labels.
void AddPairs(const char* name, const char* help, const Labels& labels, const char* first,
              const char* second, const Counts& counts, MetricFamilies* out) {
  for (const auto& [key, count] : Sorted(counts)) {
    const size_t slash = key.find('/');
    if (slash == std::string::npos) continue;
    out->Counter(name, help,
                 With(With(labels, first, key.substr(0, slash)), second, key.substr(slash + 1)),
                 AsDouble(count));
  }
}

void AddDurations(const char* name, const char* help, const Labels& labels,
                  const v1::DurationHistogram& durations, MetricFamilies* out) {
  out->Histogram(name, help, labels, durations.bounds(), durations.buckets(),
                 durations.sum_seconds());
}

void AddIo(const Labels& labels, const v1::OverlayIoSnapshot& io, MetricFamilies* out) {
  constexpr char kRead[] = "pbkfs_overlay_read_bytes_total";
  constexpr char kReadHelp[] = "Bytes answered to reads, by where they came from.";
  out->Counter(kRead, kReadHelp, With(labels, "source", "diff"), AsDouble(io.read_bytes_diff()));
  out->Counter(kRead, kReadHelp, With(labels, "source", "backup"),
               AsDouble(io.read_bytes_backup()));
  out->Counter(kRead, kReadHelp, With(labels, "source", "zero"), AsDouble(io.read_bytes_zero()));
  out->Counter("pbkfs_overlay_written_bytes_total", "Bytes that were written.", labels,
               AsDouble(io.written_bytes()));
  AddCounts("pbkfs_overlay_blocks_copied_total", "Blocks copied from the backup into the diff.",
            labels, "reason", io.blocks_copied_by_reason(), out);
  out->Counter("pbkfs_overlay_copied_bytes_total", "Bytes of the backup in copied blocks.", labels,
               AsDouble(io.bytes_copied()));
  AddCounts("pbkfs_fills_total",
            "Blocks that were read and offered to the diff, by what became "
            "of them.",
            labels, "result", io.fills(), out);
  out->Counter("pbkfs_handle_hits_total", "I/O that found its backing file open.", labels,
               AsDouble(io.handle_hits()));
  out->Counter("pbkfs_handle_misses_total", "I/O that had to open its backing file.", labels,
               AsDouble(io.handle_misses()));
  out->Gauge("pbkfs_handles_open", "Backing files that are open.", labels,
             AsDouble(io.handles_open()));
  out->Counter("pbkfs_page_cache_hits_total", "Pages of the backup found decoded in the cache.",
               labels, AsDouble(io.cache_hits()));
  out->Counter("pbkfs_page_cache_misses_total", "Pages of the backup that had to be decoded.",
               labels, AsDouble(io.cache_misses()));
}

void AddPageErrors(const Labels& labels, const v1::PageErrors& errors, MetricFamilies* out) {
  constexpr char kErrors[] = "pbkfs_page_errors_total";
  constexpr char kHelp[] = "Pages of the backup that could not be served.";
  out->Counter(kErrors, kHelp, With(labels, "kind", "checksum"), AsDouble(errors.checksum()));
  out->Counter(kErrors, kHelp, With(labels, "kind", "format"), AsDouble(errors.format()));
  out->Counter(kErrors, kHelp, With(labels, "kind", "io"), AsDouble(errors.io()));
}

void AddPending(const Labels& labels, const v1::PendingStats& pending, MetricFamilies* out) {
  out->Gauge("pbkfs_pending_operations", "Operations that are ordered or waiting.", labels,
             AsDouble(pending.operations()));
  out->Gauge("pbkfs_pending_inodes", "Files with operations that are ordered or waiting.", labels,
             AsDouble(pending.inodes()));
  AddDurations("pbkfs_pending_wait_seconds", "How long operations waited for earlier ones.", labels,
               pending.wait_durations(), out);
}

void AddFuse(const Labels& labels, const v1::FuseStats& fuse, MetricFamilies* out) {
  AddCounts("pbkfs_fuse_requests_total", "Requests of the kernel that were answered.", labels, "op",
            fuse.requests(), out);
  AddPairs("pbkfs_fuse_request_errors_total", "Requests that were answered with an error.", labels,
           "op", "errno", fuse.errors(), out);
  out->Counter("pbkfs_requests_resent_total",
               "Requests that the kernel sent again after a worker had died.", labels,
               AsDouble(fuse.resent_requests()));
  out->Gauge("pbkfs_fuse_inflight_requests", "Requests that have no answer yet.", labels,
             AsDouble(fuse.inflight_requests()));
  out->Gauge("pbkfs_fuse_oldest_request_age_seconds", "Age of the oldest of them.", labels,
             Seconds(fuse.oldest_request_age()));
}

void AddDiff(const Labels& labels, const v1::DiffStats& diff, MetricFamilies* out) {
  out->Gauge("pbkfs_diff_bytes",
             "Bytes that the diff takes on the disk, without the log's reserve of 4 MiB.", labels,
             AsDouble(int64_t{diff.diff_bytes()}));
  out->Gauge("pbkfs_diff_fs_free_bytes", "Free bytes of the diff's file system.", labels,
             AsDouble(int64_t{diff.fs_free_bytes()}));
  out->Gauge("pbkfs_metalog_bytes", "Bytes of the diff's log.", labels,
             AsDouble(int64_t{diff.metalog_bytes()}));
}

void AddMount(const v1::MountStats& mount, MetricFamilies* out) {
  const Labels labels = {{"mount", mount.mount_id()}};
  out->Gauge("pbkfs_mount_info", "What is mounted; always 1.",
             With(With(labels, "instance", mount.instance()), "backup", mount.backup_id()), 1);
  if (mount.has_backup_age()) {
    out->Gauge("pbkfs_mount_backup_age_seconds", "Time since the backup became consistent.", labels,
               Seconds(mount.backup_age()));
  }
  if (mount.has_io()) AddIo(labels, mount.io(), out);
  if (mount.has_page_errors()) AddPageErrors(labels, mount.page_errors(), out);
  if (mount.has_pending()) AddPending(labels, mount.pending(), out);
  if (mount.has_fuse()) AddFuse(labels, mount.fuse(), out);
  if (mount.has_diff()) AddDiff(labels, mount.diff(), out);
}

void AddCaches(const v1::DaemonStats& daemon, MetricFamilies* out) {
  out->Gauge("pbkfs_page_index_bytes", "Bytes of page indexes in memory.", {},
             AsDouble(int64_t{daemon.page_index_bytes()}));
  out->Counter("pbkfs_page_index_builds_total", "Page indexes that were built.", {},
               AsDouble(daemon.page_index_builds()));
  out->Counter("pbkfs_page_index_hits_total", "Page indexes that were found in memory.", {},
               AsDouble(daemon.page_index_hits()));
  out->Counter("pbkfs_page_index_misses_total", "Page indexes that were not in memory.", {},
               AsDouble(daemon.page_index_misses()));
  out->Counter("pbkfs_page_index_evictions_total", "Page indexes that were dropped for space.", {},
               AsDouble(daemon.page_index_evictions()));
  out->Counter("pbkfs_page_index_scans_total",
               "Stored files that were read whole for want of a usable header map.", {},
               AsDouble(daemon.page_index_scans()));
  out->Gauge("pbkfs_page_cache_bytes", "Bytes of decoded pages in memory.", {},
             AsDouble(int64_t{daemon.page_cache_bytes()}));
  out->Counter("pbkfs_page_cache_evictions_total", "Decoded pages that were dropped for space.", {},
               AsDouble(daemon.page_cache_evictions()));
  AddCounts("pbkfs_decoded_pages_total", "Pages decoded from backups.", {}, "codec",
            daemon.decoded_pages(), out);
}

void AddDaemon(const v1::DaemonStats& daemon, MetricFamilies* out) {
  out->Gauge("pbkfs_build_info", "Version of the daemon; always 1.",
             {{"version", daemon.version()}}, 1);
  out->Counter("pbkfs_worker_restarts_total", "Workers that died and were replaced.", {},
               AsDouble(daemon.worker_restarts()));
  for (const auto& [state, count] : Sorted(daemon.mounts_by_state())) {
    out->Gauge("pbkfs_mounts", "Mounts by state.", {{"state", state}}, AsDouble(count));
  }
  AddDurations("pbkfs_mount_duration_seconds", "How long mounts took to make.", {},
               daemon.mount_durations(), out);
  AddPairs("pbkfs_rpc_requests_total", "Calls of the API.", {}, "method", "code",
           daemon.rpc_requests(), out);
  for (const auto& [method, durations] : Sorted(daemon.rpc_durations())) {
    AddDurations("pbkfs_rpc_duration_seconds", "How long calls of the API took.",
                 {{"method", method}}, durations, out);
  }
  for (const auto& [op, durations] : Sorted(daemon.fuse_request_durations())) {
    AddDurations("pbkfs_fuse_request_duration_seconds",
                 "How long requests took to answer, over all mounts.", {{"op", op}}, durations,
                 out);
  }
  AddCaches(daemon, out);
}

}  // namespace

std::vector<prometheus::MetricFamily> MetricFamiliesOf(const v1::StatsResponse& stats) {
  MetricFamilies out;
  AddDaemon(stats.daemon(), &out);
  for (const v1::MountStats& mount : stats.mounts()) AddMount(mount, &out);
  return out.Take();
}

}  // namespace pbkfs
