#include "client/stats_output.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/output.h"

namespace pbkfs::client {
namespace {

using Row = std::vector<std::string>;

// Lines between two headers, so that one is always on the screen.
constexpr int kHeaderEvery = 20;

std::string Bytes(double bytes) { return FormatBytes(static_cast<int64_t>(std::llround(bytes))); }

std::string Percent(uint64_t hits, uint64_t misses) {
  if (hits + misses == 0) return "-";
  return absl::StrFormat("%.1f%%",
                         100.0 * static_cast<double>(hits) / static_cast<double>(hits + misses));
}

std::string SecondsText(double seconds) {
  if (std::isinf(seconds)) return "over 10 s";
  if (seconds < 0.001) return absl::StrFormat("%.0f µs", seconds * 1e6);
  if (seconds < 1) return absl::StrFormat("%.3g ms", seconds * 1e3);
  if (seconds < 120) return absl::StrFormat("%.3g s", seconds);
  if (seconds < 7200) return absl::StrFormat("%.0f min", seconds / 60);
  return seconds < 172800 ? absl::StrFormat("%.0f h", seconds / 3600)
                          : absl::StrFormat("%.0f d", seconds / 86400);
}

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + 1e-9 * duration.nanos();
}
double Seconds(const google::protobuf::Timestamp& time) {
  return static_cast<double>(time.seconds()) + 1e-9 * time.nanos();
}

// "p50 / p99" of one operation.
std::string Latency(const v1::FuseStats& fuse, const std::string& op) {
  const auto it = fuse.request_durations().find(op);
  if (it == fuse.request_durations().end()) return "-";
  const std::optional<double> median = Quantile(it->second, 0.5);
  if (!median.has_value()) return "-";
  return absl::StrCat(SecondsText(*median), " / ", SecondsText(*Quantile(it->second, 0.99)));
}

std::string Oldest(const v1::FuseStats& fuse) {
  if (fuse.inflight_requests() == 0) return "-";
  return absl::StrCat(SecondsText(Seconds(fuse.oldest_request_age())), " ",
                      fuse.oldest_request_op());
}

uint64_t PageErrorCount(const v1::PageErrors& errors) {
  return errors.checksum() + errors.format() + errors.io();
}

uint64_t Sum(const google::protobuf::Map<std::string, uint64_t>& counts) {
  uint64_t sum = 0;
  for (const auto& [key, count] : counts) sum += count;
  return sum;
}

// To `width` characters; those of UTF-8 after the first byte take no place.
void Widen(size_t width, std::string* cell) {
  size_t characters = 0;
  for (const char c : *cell) characters += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
  if (characters < width) cell->append(width - characters, ' ');
}

// ---- subtraction ----

uint64_t Less(uint64_t now, uint64_t before) { return now >= before ? now - before : now; }

void Subtract(google::protobuf::Map<std::string, uint64_t>* now,
              const google::protobuf::Map<std::string, uint64_t>& before) {
  for (auto& [key, count] : *now) {
    const auto it = before.find(key);
    if (it != before.end()) count = Less(count, it->second);
  }
}

void Subtract(v1::DurationHistogram* now, const v1::DurationHistogram& before) {
  if (now->buckets_size() != before.buckets_size()) return;
  for (int i = 0; i < now->buckets_size(); ++i) {
    if (now->buckets(i) < before.buckets(i)) return;
  }
  for (int i = 0; i < now->buckets_size(); ++i) {
    now->set_buckets(i, now->buckets(i) - before.buckets(i));
  }
  now->set_sum_seconds(now->sum_seconds() - before.sum_seconds());
}

void Subtract(google::protobuf::Map<std::string, v1::DurationHistogram>* now,
              const google::protobuf::Map<std::string, v1::DurationHistogram>& before) {
  for (auto& [key, durations] : *now) {
    const auto it = before.find(key);
    if (it != before.end()) Subtract(&durations, it->second);
  }
}

void Subtract(v1::OverlayIoSnapshot* now, const v1::OverlayIoSnapshot& before) {
  now->set_handle_hits(Less(now->handle_hits(), before.handle_hits()));
  now->set_handle_misses(Less(now->handle_misses(), before.handle_misses()));
  now->set_cache_hits(Less(now->cache_hits(), before.cache_hits()));
  now->set_cache_misses(Less(now->cache_misses(), before.cache_misses()));
  now->set_blocks_copied(Less(now->blocks_copied(), before.blocks_copied()));
  now->set_bytes_copied(Less(now->bytes_copied(), before.bytes_copied()));
  now->set_read_bytes_diff(Less(now->read_bytes_diff(), before.read_bytes_diff()));
  now->set_read_bytes_backup(Less(now->read_bytes_backup(), before.read_bytes_backup()));
  now->set_read_bytes_zero(Less(now->read_bytes_zero(), before.read_bytes_zero()));
  now->set_written_bytes(Less(now->written_bytes(), before.written_bytes()));
  Subtract(now->mutable_fills(), before.fills());
  Subtract(now->mutable_blocks_copied_by_reason(), before.blocks_copied_by_reason());
}

void Subtract(v1::PendingStats* now, const v1::PendingStats& before) {
  // A worker that died has begun all of them again.
  if (now->waits() < before.waits()) return;
  now->set_waits(now->waits() - before.waits());
  const double waited = Seconds(now->wait_time()) - Seconds(before.wait_time());
  const double whole = std::floor(std::max(waited, 0.0));
  now->mutable_wait_time()->set_seconds(static_cast<int64_t>(whole));
  now->mutable_wait_time()->set_nanos(
      static_cast<int32_t>(std::min(1e9 * (std::max(waited, 0.0) - whole), 999999999.0)));
  Subtract(now->mutable_wait_durations(), before.wait_durations());
}

void Subtract(v1::MountStats* now, const v1::MountStats& before) {
  if (now->has_io()) Subtract(now->mutable_io(), before.io());
  if (now->has_pending()) Subtract(now->mutable_pending(), before.pending());
  if (now->has_fuse()) {
    v1::FuseStats* fuse = now->mutable_fuse();
    Subtract(fuse->mutable_requests(), before.fuse().requests());
    Subtract(fuse->mutable_errors(), before.fuse().errors());
    fuse->set_resent_requests(Less(fuse->resent_requests(), before.fuse().resent_requests()));
    Subtract(fuse->mutable_request_durations(), before.fuse().request_durations());
  }
  if (now->has_page_errors()) {
    v1::PageErrors* errors = now->mutable_page_errors();
    errors->set_checksum(Less(errors->checksum(), before.page_errors().checksum()));
    errors->set_format(Less(errors->format(), before.page_errors().format()));
    errors->set_io(Less(errors->io(), before.page_errors().io()));
  }
}

void Subtract(v1::DaemonStats* now, const v1::DaemonStats& before) {
  now->set_page_index_builds(Less(now->page_index_builds(), before.page_index_builds()));
  now->set_page_index_hits(Less(now->page_index_hits(), before.page_index_hits()));
  now->set_page_index_misses(Less(now->page_index_misses(), before.page_index_misses()));
  now->set_page_index_evictions(Less(now->page_index_evictions(), before.page_index_evictions()));
  now->set_page_index_scans(Less(now->page_index_scans(), before.page_index_scans()));
  now->set_page_cache_evictions(Less(now->page_cache_evictions(), before.page_cache_evictions()));
  now->set_worker_restarts(Less(now->worker_restarts(), before.worker_restarts()));
  Subtract(now->mutable_decoded_pages(), before.decoded_pages());
  Subtract(now->mutable_rpc_requests(), before.rpc_requests());
  Subtract(now->mutable_rpc_durations(), before.rpc_durations());
  Subtract(now->mutable_mount_durations(), before.mount_durations());
  Subtract(now->mutable_fuse_request_durations(), before.fuse_request_durations());
}

// The same mount in another sample; null where it is not there, or was made anew.
const v1::MountStats* Find(const v1::StatsResponse& response, const v1::MountStats& mount) {
  for (const v1::MountStats& other : response.mounts()) {
    if (other.mount_id() == mount.mount_id() &&
        Seconds(other.create_time()) == Seconds(mount.create_time())) {
      return &other;
    }
  }
  return nullptr;
}

// ---- totals ----

std::string OneMountText(const v1::MountStats& stats) {
  const v1::OverlayIoSnapshot& io = stats.io();
  const v1::FuseStats& fuse = stats.fuse();
  std::vector<Row> rows = {
      {"mount", absl::StrCat(stats.mount_id(), ": ", stats.instance(), " ", stats.backup_id())}};
  if (stats.has_backup_age())
    rows.push_back({"backup age", SecondsText(Seconds(stats.backup_age()))});
  const auto bytes = [](uint64_t count) { return FormatBytes(static_cast<int64_t>(count)); };
  rows.push_back({"read", absl::StrCat(bytes(io.read_bytes_backup()), " from the backup, ",
                                       bytes(io.read_bytes_diff()), " from the diff, ",
                                       bytes(io.read_bytes_zero()), " zeros")});
  rows.push_back({"written", bytes(io.written_bytes())});
  rows.push_back({"copied", absl::StrCat(io.blocks_copied(), " blocks, ", bytes(io.bytes_copied()),
                                         " of the backup")});
  rows.push_back(
      {"page cache", absl::StrCat(Percent(io.cache_hits(), io.cache_misses()), " hits")});
  rows.push_back(
      {"open files", absl::StrCat(io.handles_open(), ", ",
                                  Percent(io.handle_hits(), io.handle_misses()), " hits")});
  rows.push_back({"requests", absl::StrCat(Sum(fuse.requests()), ", ", fuse.inflight_requests(),
                                           " in flight, oldest: ", Oldest(fuse))});
  for (const char* op : {"read", "write", "fsync"}) {
    rows.push_back({absl::StrCat(op, " p50 / p99"), Latency(fuse, op)});
  }
  rows.push_back({"pending", absl::StrCat(stats.pending().operations(), " operations, ",
                                          stats.pending().waits(), " waits so far")});
  if (stats.has_diff()) {
    rows.push_back({"diff", absl::StrCat(FormatBytes(stats.diff().diff_bytes()), ", log ",
                                         FormatBytes(stats.diff().metalog_bytes()), ", free ",
                                         FormatBytes(stats.diff().fs_free_bytes()))});
  }
  rows.push_back({"page errors", absl::StrCat(PageErrorCount(stats.page_errors()))});
  if (fuse.resent_requests() > 0) {
    rows.push_back({"resent", absl::StrCat(fuse.resent_requests(), " requests")});
  }
  return FormatTable(rows);
}

}  // namespace

std::string StatsText(const v1::StatsResponse& response) {
  if (response.mounts_size() == 1) return OneMountText(response.mounts(0));
  std::vector<Row> rows = {{"ID", "READ BACKUP", "READ DIFF", "READ ZERO", "WRITTEN", "COPIED",
                            "HANDLE HITS", "CACHE HITS", "PENDING", "OLDEST", "DIFF SIZE",
                            "PAGE ERRORS"}};
  const auto bytes = [](uint64_t count) { return FormatBytes(static_cast<int64_t>(count)); };
  for (const v1::MountStats& stats : response.mounts()) {
    const v1::OverlayIoSnapshot& io = stats.io();
    rows.push_back(
        {stats.mount_id(), bytes(io.read_bytes_backup()), bytes(io.read_bytes_diff()),
         bytes(io.read_bytes_zero()), bytes(io.written_bytes()),
         absl::StrCat(io.blocks_copied(), " blocks"), Percent(io.handle_hits(), io.handle_misses()),
         Percent(io.cache_hits(), io.cache_misses()), absl::StrCat(stats.pending().operations()),
         Oldest(stats.fuse()), FormatBytes(stats.diff().diff_bytes()),
         absl::StrCat(PageErrorCount(stats.page_errors()))});
  }
  return FormatTable(rows);
}

v1::StatsResponse StatsSince(const v1::StatsResponse& now, const v1::StatsResponse& before) {
  v1::StatsResponse since = now;
  Subtract(since.mutable_daemon(), before.daemon());
  for (v1::MountStats& mount : *since.mutable_mounts()) {
    if (const v1::MountStats* old = Find(before, mount); old != nullptr) Subtract(&mount, *old);
  }
  return since;
}

std::optional<double> Quantile(const v1::DurationHistogram& durations, double quantile) {
  uint64_t total = 0;
  for (const uint64_t count : durations.buckets()) total += count;
  if (total == 0) return std::nullopt;
  const double rank = quantile * static_cast<double>(total);
  double below = 0;
  for (int i = 0; i < durations.buckets_size() && i < durations.bounds_size(); ++i) {
    const auto count = static_cast<double>(durations.buckets(i));
    if (count > 0 && below + count >= rank) {
      const double low = i == 0 ? 0 : durations.bounds(i - 1);
      return low + (durations.bounds(i) - low) * (rank - below) / count;
    }
    below += count;
  }
  return std::numeric_limits<double>::infinity();
}

bool StatsWatch::Add(v1::StatsResponse sample) {
  if (reset_ && !base_.has_value()) {
    base_ = std::move(sample);
    return false;
  }
  if (!reset_ && now_.has_sampled_at()) base_ = std::move(now_);
  now_ = std::move(sample);
  return true;
}

v1::StatsResponse StatsWatch::Totals() const { return reset_ ? StatsSince(now_, *base_) : now_; }

std::string StatsWatch::Text() {
  const v1::StatsResponse before = base_.value_or(v1::StatsResponse());
  const v1::StatsResponse since = StatsSince(now_, before);
  std::vector<Row> rows = {{"TIME", "ID", "OPS/S", "READ/S", "BACKUP", "DIFF", "WRITE/S",
                            "CACHE HITS", "READ P50 / P99", "WRITE P50 / P99", "FSYNC P50 / P99",
                            "DIFF SIZE", "GROWTH/S", "OLDEST", "PAGE ERRORS"}};
  const std::string time = TimeText(now_.sampled_at()).substr(11, 8);
  for (const v1::MountStats& stats : since.mounts()) {
    const v1::OverlayIoSnapshot& io = stats.io();
    const v1::MountStats* old = Find(before, stats);
    const double from =
        old == nullptr ? Seconds(stats.create_time()) : Seconds(before.sampled_at());
    const double elapsed = std::max(Seconds(now_.sampled_at()) - from, 1e-3);
    const auto rate = [&](uint64_t count) { return static_cast<double>(count) / elapsed; };
    const uint64_t read = io.read_bytes_backup() + io.read_bytes_diff() + io.read_bytes_zero();
    const int64_t grown =
        stats.diff().diff_bytes() - (old == nullptr ? 0 : old->diff().diff_bytes());
    const double growth = static_cast<double>(grown) / elapsed;
    rows.push_back({time, stats.mount_id(),
                    absl::StrFormat("%.0f", rate(Sum(stats.fuse().requests()))), Bytes(rate(read)),
                    Percent(io.read_bytes_backup(), read - io.read_bytes_backup()),
                    Percent(io.read_bytes_diff(), read - io.read_bytes_diff()),
                    Bytes(rate(io.written_bytes())), Percent(io.cache_hits(), io.cache_misses()),
                    Latency(stats.fuse(), "read"), Latency(stats.fuse(), "write"),
                    Latency(stats.fuse(), "fsync"), FormatBytes(stats.diff().diff_bytes()),
                    growth < 0 ? absl::StrCat("-", Bytes(-growth)) : Bytes(growth),
                    Oldest(stats.fuse()), absl::StrCat(PageErrorCount(stats.page_errors()))});
  }
  // Lines are aligned with those that were printed before.
  constexpr size_t kWidths[] = {8, 8, 6, 9, 6, 6, 9, 10, 18, 18, 18, 9, 9, 12, 11};
  for (Row& row : rows) {
    for (size_t i = 0; i + 1 < row.size(); ++i) Widen(kWidths[i], &row[i]);
  }
  std::string text = FormatTable(rows);
  if (lines_ > 0 && lines_ < kHeaderEvery && rows.size() == 2) text.erase(0, text.find('\n') + 1);
  lines_ = lines_ >= kHeaderEvery ? 1 : lines_ + 1;
  return text;
}

}  // namespace pbkfs::client
