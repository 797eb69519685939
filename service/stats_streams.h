// The streams of WatchStats. One thread samples for all of them, so a stream costs memory and no
// thread; gRPC's own threads write. A reader that does not read has one message under way, and gets
// the next sample when it has taken that one: samples in between are never made for it.
//
// A stream ends when its caller cancels, when its mount is gone (NOT_FOUND), when its caller may not
// call any more, and when the daemon stops (UNAVAILABLE). At most kMaxWatchStreams at a time.
#ifndef PBKFS_SERVICE_STATS_STREAMS_H_
#define PBKFS_SERVICE_STATS_STREAMS_H_

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fs/base/mutex.h"
#include "grpcpp/support/server_callback.h"
#include "pbkfs/v1/mount.pb.h"
#include "service/alarm.h"
#include "service/metrics/histogram.h"

namespace pbkfs {

// Thread-safe. Outlives the server that it serves.
class StatsStreams {
 public:
  struct Source {
    // The figures of one mount, or of all for ""; NOT_FOUND where there is no such mount.
    std::function<absl::StatusOr<v1::StatsResponse>(const std::string& mount_id)> sample;
    // Whether the mount is there; cheap.
    std::function<bool(const std::string& mount_id)> exists;
  };

  StatsStreams(Source source, RpcFigures& figures);
  // Every stream has ended: the server is gone.
  ~StatsStreams();

  // Takes out of a sample what the caller may not see; an error ends the stream, for a caller who
  // may see nothing any more.
  using Filter = std::function<absl::Status(v1::StatsResponse* response)>;

  // The handler of WatchStats.
  grpc::ServerWriteReactor<v1::StatsResponse>* Watch(const v1::WatchStatsRequest& request,
                                                     Filter filter);
  // A stream that ends at once.
  grpc::ServerWriteReactor<v1::StatsResponse>* Refuse(const absl::Status& status);
  // Ends all streams, and from now on each new one.
  void Stop();

 private:
  class Stream;

  absl::Status Add(const v1::WatchStatsRequest& request, Stream* stream)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run();
  void WakeFor(const Stream& stream) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Serve(const std::set<Stream*>& due, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Source source_;
  RpcFigures& figures_;
  Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;  // No new streams.
  std::set<Stream*> streams_ ABSL_GUARDED_BY(mutex_);
  Alarm alarm_;  // When the next stream is due.
  std::thread thread_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_STATS_STREAMS_H_
