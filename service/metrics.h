// The daemon's figures as Prometheus metric families, made from snapshots at each scrape: nothing
// is counted twice, and the metrics of a mount disappear with it.
#ifndef PBKFS_SERVICE_METRICS_H_
#define PBKFS_SERVICE_METRICS_H_

#include <vector>

#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"
#include "service/histogram.h"
#include "service/mount_manager.h"

namespace pbkfs {

// Safe from any thread. Both arguments outlive the collector.
class MetricsCollector : public prometheus::Collectable {
 public:
  MetricsCollector(const MountManager& manager, const RpcFigures& rpc)
      : manager_(manager), rpc_(rpc) {}

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const MountManager& manager_;
  const RpcFigures& rpc_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_METRICS_H_
