// Serves /metrics in the Prometheus text format over HTTP.
#ifndef PBKFS_SERVICE_METRICS_SERVER_H_
#define PBKFS_SERVICE_METRICS_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "prometheus/collectable.h"

namespace pbkfs {

class MetricsServer {
 public:
  // Listens on `address` (HOST:PORT; port 0 = any) until destroyed. `collector` outlives the
  // server.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      const std::string& address, const prometheus::Collectable& collector);
  virtual ~MetricsServer() = default;
  virtual int port() const = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_METRICS_SERVER_H_
