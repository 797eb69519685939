// Values of fs/ as messages of the API.
#ifndef PBKFS_SERVICE_PROTO_CONVERT_H_
#define PBKFS_SERVICE_PROTO_CONVERT_H_

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "fs/base/io_stats.h"
#include "fs/catalog/chain.h"
#include "fs/overlay/overlay.h"
#include "fs/session/fuse_session.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "pbkfs/v1/mount.pb.h"
#include "service/metrics/histogram.h"

namespace pbkfs {

void ToProto(absl::Time time, google::protobuf::Timestamp* out);
void ToProto(absl::Duration duration, google::protobuf::Duration* out);
absl::Duration FromProto(const google::protobuf::Duration& duration);

void ToProto(const ChainMember& member, v1::ChainMember* out);
void ToProto(const IoSnapshot& io, v1::OverlayIoSnapshot* out);
void ToProto(const IoSnapshot& io, v1::PageErrors* out);
// `buckets` has a count for each bound and one more; not cumulative.
void ToProto(absl::Span<const double> bounds, absl::Span<const uint64_t> buckets,
             double sum_seconds, v1::DurationHistogram* out);
void ToProto(const Histogram& histogram, v1::DurationHistogram* out);
// Adds what `from` counted, but where the buckets are others: then `to` stays.
void AddDurations(const v1::DurationHistogram& from, v1::DurationHistogram* to);
void ToProto(const PendingFigures& pending, v1::PendingStats* out);
void ToProto(const DiffFigures& diff, v1::DiffStats* out);
void ToProto(const FuseFigures& fuse, v1::FuseStats* out);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_PROTO_CONVERT_H_
