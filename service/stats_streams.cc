#include "service/stats_streams.h"

#include <algorithm>
#include <cassert>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "fs/base/status.h"
#include "service/grpc_status.h"
#include "service/metrics/limits.h"
#include "service/proto_convert.h"

namespace pbkfs {
namespace {

constexpr char kMethod[] = "MountService.WatchStats";

absl::Status GoneMount(const std::string& mount_id) {
  return ReasonError(absl::StatusCode::kNotFound, reason::kMountNotFound,
                     absl::StrCat("the mount '", mount_id, "' is gone"));
}

absl::Status Draining() {
  return ReasonError(absl::StatusCode::kUnavailable, reason::kDraining,
                     "the daemon is stopping; try again when it is back");
}

absl::StatusOr<absl::Duration> IntervalOf(const v1::WatchStatsRequest& request) {
  if (!request.has_interval()) return kDefaultWatchInterval;
  const absl::Duration interval = FromProto(request.interval());
  if (interval >= kMinWatchInterval && interval <= kMaxWatchInterval) return interval;
  return WithField(
      ReasonError(absl::StatusCode::kInvalidArgument, reason::kInvalidField,
                  absl::StrCat("interval: ", absl::FormatDuration(interval), " is not between ",
                               absl::FormatDuration(kMinWatchInterval), " and ",
                               absl::FormatDuration(kMaxWatchInterval))),
      "interval");
}

}  // namespace

// Everything but the reactions is called with the mutex of StatsStreams held. gRPC runs reactions
// on threads of its own, never inside of the calls that cause them.
class StatsStreams::Stream final : public grpc::ServerWriteReactor<v1::StatsResponse> {
 public:
  explicit Stream(StatsStreams& streams) : streams_(streams) {}

  // Once the message that is under way has left.
  void EndWith(const absl::Status& status) {
    if (finished_ || ending_.has_value()) return;
    ending_ = status;
    if (!writing_) FinishNow();
  }

  void Send(v1::StatsResponse response) {
    if (const absl::Status allowed = filter(&response); !allowed.ok()) return EndWith(allowed);
    message_ = std::move(response);
    writing_ = true;
    StartWrite(&message_);
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&streams_.mutex_);
    writing_ = false;
    if (!ok && !ending_.has_value()) ending_ = absl::CancelledError("the caller is gone");
    if (ending_.has_value() && !finished_) FinishNow();
    streams_.WakeFor(*this);  // It is to be sampled again.
  }

  // A message that is under way does not hold it up.
  void OnCancel() override {
    MutexLock lock(&streams_.mutex_);
    if (finished_) return;
    ending_ = absl::CancelledError("the caller cancelled");
    FinishNow();
  }

  void OnDone() override {
    {
      MutexLock lock(&streams_.mutex_);
      streams_.streams_.erase(this);
    }
    delete this;
  }

  Filter filter;
  std::string mount_id;
  absl::Duration interval;
  absl::Time next_sample;
  absl::Time next_look = absl::InfiniteFuture();           // Whether the mount is still there.
  std::optional<google::protobuf::Timestamp> create_time;  // Of the mount that is watched.

  bool ended() const { return finished_ || ending_.has_value(); }
  bool writing() const { return writing_; }
  bool WantsSample(absl::Time now) const { return !ended() && !writing_ && next_sample <= now; }
  absl::Time due() const {
    if (ended()) return absl::InfiniteFuture();
    return writing_ ? next_look : std::min(next_look, next_sample);
  }

 private:
  void FinishNow() {
    finished_ = true;
    streams_.figures_.Count(kMethod, absl::StatusCodeToString(ending_->code()));
    Finish(ToGrpcStatus(*ending_));
  }

  StatsStreams& streams_;
  v1::StatsResponse message_;
  bool writing_ = false;
  bool finished_ = false;
  std::optional<absl::Status> ending_;
};

StatsStreams::StatsStreams(Source source, RpcFigures& figures)
    : source_(std::move(source)), figures_(figures) {
  thread_ = std::thread([this] { Run(); });
}

StatsStreams::~StatsStreams() {
  alarm_.Stop();
  thread_.join();
  assert(streams_.empty());
}

grpc::ServerWriteReactor<v1::StatsResponse>* StatsStreams::Watch(
    const v1::WatchStatsRequest& request, Filter filter) {
  auto* stream = new Stream(*this);  // Deletes itself when gRPC is done with it.
  MutexLock lock(&mutex_);
  stream->filter = std::move(filter);
  if (absl::Status status = Add(request, stream); !status.ok()) stream->EndWith(status);
  return stream;
}

grpc::ServerWriteReactor<v1::StatsResponse>* StatsStreams::Refuse(const absl::Status& status) {
  auto* stream = new Stream(*this);
  MutexLock lock(&mutex_);
  stream->EndWith(status);
  return stream;
}

absl::Status StatsStreams::Add(const v1::WatchStatsRequest& request, Stream* stream) {
  if (stopping_) return Draining();
  if (streams_.size() >= kMaxWatchStreams) {
    return ReasonError(absl::StatusCode::kResourceExhausted, reason::kStreamLimit,
                       absl::StrCat(kMaxWatchStreams,
                                    " callers watch already; end one of them, or ask with Stats"));
  }
  PBKFS_ASSIGN_OR_RETURN(stream->interval, IntervalOf(request));
  stream->mount_id = request.mount_id();
  stream->next_sample = absl::Now();
  if (!stream->mount_id.empty()) stream->next_look = absl::Now() + kWatchMountPeriod;
  streams_.insert(stream);
  WakeFor(*stream);
  return absl::OkStatus();
}

void StatsStreams::Stop() {
  MutexLock lock(&mutex_);
  stopping_ = true;
  for (Stream* stream : streams_) stream->EndWith(Draining());
}

// When the stream wants a sample or a look.
void StatsStreams::WakeFor(const Stream& stream) {
  const absl::Duration rest = std::min(stream.due() - absl::Now(), absl::Hours(1));
  alarm_.SetNoLaterThan(Alarm::Clock::now() + absl::ToChronoNanoseconds(rest));
}

void StatsStreams::Run() {
  while (alarm_.Wait()) {
    MutexLock lock(&mutex_);
    const absl::Time now = absl::Now();
    std::set<Stream*> due;
    for (Stream* stream : streams_) {
      if (stream->due() <= now) due.insert(stream);
    }
    if (!due.empty()) Serve(due, now);
    for (const Stream* stream : streams_) WakeFor(*stream);
  }
}

// Each mount is sampled once, without the mutex: streams that ended meanwhile are left alone.
void StatsStreams::Serve(const std::set<Stream*>& due, absl::Time now) {
  std::map<std::string, bool> wanted;  // Mounts, and whether a sample of them is wanted.
  for (const Stream* stream : due) wanted[stream->mount_id] |= stream->WantsSample(now);
  std::map<std::string, absl::StatusOr<v1::StatsResponse>> samples;
  mutex_.Unlock();
  for (const auto& [mount_id, sample] : wanted) {
    if (sample) {
      samples.emplace(mount_id, source_.sample(mount_id));
    } else if (!source_.exists(mount_id)) {
      samples.emplace(mount_id, GoneMount(mount_id));
    }
  }
  mutex_.Lock();
  for (Stream* stream : due) {
    if (streams_.count(stream) == 0 || stream->ended()) continue;
    if (stream->next_look <= now) stream->next_look = now + kWatchMountPeriod;
    const auto it = samples.find(stream->mount_id);
    if (it == samples.end()) continue;
    if (!it->second.ok()) {
      stream->EndWith(it->second.status());
      continue;
    }
    if (!stream->WantsSample(now)) continue;
    const v1::StatsResponse& sample = *it->second;
    if (!stream->mount_id.empty()) {
      const google::protobuf::Timestamp& made = sample.mounts(0).create_time();
      if (stream->create_time.has_value() && (stream->create_time->seconds() != made.seconds() ||
                                              stream->create_time->nanos() != made.nanos())) {
        stream->EndWith(GoneMount(stream->mount_id));  // Another one has its name now.
        continue;
      }
      stream->create_time = made;
    }
    stream->next_sample = std::max(stream->next_sample + stream->interval, now);
    stream->Send(sample);
  }
}

}  // namespace pbkfs
