// The HTTP server of the metrics address: /metrics for Prometheus, /healthz and /readyz for probes,
// and the status page at /. No TLS, no authentication: it listens on the loopback unless told
// otherwise, and changes nothing.
//
// A bounded number of threads; slow clients are cut off (service/metrics/limits.h).
#ifndef PBKFS_SERVICE_METRICS_METRICS_SERVER_H_
#define PBKFS_SERVICE_METRICS_METRICS_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pbkfs/v1/mount.pb.h"

namespace pbkfs {

// Where the server gets what it shows. Called from its threads, the first two never at the same
// time.
struct MetricsSources {
  std::function<v1::StatsResponse()> stats;
  std::function<v1::ListMountsResponse()> mounts;
  // Why the daemon is not ready, a line each; empty = it is.
  std::function<std::vector<std::string>()> not_ready;
};

class MetricsServer {
 public:
  // Listens on `address` (HOST:PORT; port 0 = any) until destroyed. What the sources use outlives
  // the server.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const std::string& address,
                                                              MetricsSources sources);
  virtual ~MetricsServer() = default;
  virtual int port() const = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_METRICS_METRICS_SERVER_H_
