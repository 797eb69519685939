#include "service/proto_convert.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "service/utf8.h"

namespace pbkfs {

void ToProto(absl::Time time, google::protobuf::Timestamp* out) {
  const int64_t seconds = absl::ToUnixSeconds(time);
  out->set_seconds(seconds);
  out->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
}

void ToProto(absl::Duration duration, google::protobuf::Duration* out) {
  absl::Duration rest;
  out->set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  out->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
}

absl::Duration FromProto(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

void ToProto(const ChainMember& member, v1::ChainMember* out) {
  out->set_backup_id(ToUtf8(member.id));
  out->set_mode(std::string(BackupModeName(member.control.mode)));
  out->set_compress_alg(ToUtf8(member.control.compress_alg));
  out->set_start_lsn(FormatLsn(member.control.start_lsn));
  out->set_directory(ToUtf8(member.path));
}

void ToProto(const IoSnapshot& io, v1::OverlayIoSnapshot* out) {
  out->set_handle_hits(io[IoCounter::kHandleHits]);
  out->set_handle_misses(io[IoCounter::kHandleMisses]);
  // The shards are read one after the other, so a close may be seen before its open.
  const uint64_t opened = io[IoCounter::kHandlesOpened];
  const uint64_t closed = io[IoCounter::kHandlesClosed];
  out->set_handles_open(opened > closed ? opened - closed : 0);
  out->set_cache_hits(io[IoCounter::kCacheHits]);
  out->set_cache_misses(io[IoCounter::kCacheMisses]);
  out->set_blocks_copied(io[IoCounter::kBlocksCopied] + io[IoCounter::kFillsDone]);
  (*out->mutable_blocks_copied_by_reason())["write"] = io[IoCounter::kBlocksCopied];
  (*out->mutable_blocks_copied_by_reason())["fill"] = io[IoCounter::kFillsDone];
  out->set_bytes_copied(io[IoCounter::kBytesCopied]);
  out->set_read_bytes_diff(io[IoCounter::kReadBytesDiff]);
  out->set_read_bytes_backup(io[IoCounter::kReadBytesBackup]);
  out->set_read_bytes_zero(io[IoCounter::kReadBytesZero]);
  out->set_written_bytes(io[IoCounter::kWrittenBytes]);
  for (const auto& [result, counter] : kFillResults) {
    (*out->mutable_fills())[result] = io[counter];
  }
}

void ToProto(const IoSnapshot& io, v1::PageErrors* out) {
  out->set_checksum(io[IoCounter::kPageErrorsChecksum]);
  out->set_format(io[IoCounter::kPageErrorsFormat]);
  out->set_io(io[IoCounter::kPageErrorsIo]);
}

void ToProto(absl::Span<const double> bounds, absl::Span<const uint64_t> buckets,
             double sum_seconds, v1::DurationHistogram* out) {
  out->mutable_bounds()->Add(bounds.begin(), bounds.end());
  out->mutable_buckets()->Add(buckets.begin(), buckets.end());
  out->set_sum_seconds(sum_seconds);
}

void ToProto(const Histogram& histogram, v1::DurationHistogram* out) {
  ToProto(Histogram::kBounds, histogram.buckets, histogram.sum_seconds, out);
}

void AddDurations(const v1::DurationHistogram& from, v1::DurationHistogram* to) {
  if (to->buckets().empty()) {
    *to = from;
    return;
  }
  if (!std::equal(to->bounds().begin(), to->bounds().end(), from.bounds().begin(),
                  from.bounds().end()) ||
      to->buckets_size() != from.buckets_size()) {
    return;
  }
  for (int i = 0; i < to->buckets_size(); ++i) to->set_buckets(i, to->buckets(i) + from.buckets(i));
  to->set_sum_seconds(to->sum_seconds() + from.sum_seconds());
}

void ToProto(const PendingFigures& pending, v1::PendingStats* out) {
  out->set_operations(pending.operations);
  out->set_inodes(pending.inodes);
  out->set_waits(pending.waits);
  ToProto(absl::Nanoseconds(pending.wait_nanoseconds), out->mutable_wait_time());
  ToProto(kWaitBounds, pending.wait_buckets, static_cast<double>(pending.wait_nanoseconds) * 1e-9,
          out->mutable_wait_durations());
}

void ToProto(const DiffFigures& diff, v1::DiffStats* out) {
  out->set_diff_bytes(diff.diff_bytes);
  out->set_fs_free_bytes(diff.fs_free_bytes);
  out->set_metalog_bytes(diff.metalog_bytes);
}

void ToProto(const FuseFigures& fuse, v1::FuseStats* out) {
  for (const auto& [op, count] : fuse.requests) (*out->mutable_requests())[op] = count;
  for (const auto& [key, count] : fuse.errors) {
    const char* name = strerrorname_np(key.second);
    (*out->mutable_errors())[absl::StrCat(key.first, "/", name == nullptr ? "UNKNOWN" : name)] =
        count;
  }
  out->set_inflight_requests(fuse.inflight);
  ToProto(fuse.oldest_age, out->mutable_oldest_request_age());
  out->set_oldest_request_op(fuse.oldest_op);
  out->set_resent_requests(fuse.resent);
  for (const auto& [op, latency] : fuse.latency) {
    ToProto(FuseLatencyBounds(), latency.buckets, latency.sum_seconds,
            &(*out->mutable_request_durations())[op]);
  }
}

}  // namespace pbkfs
