// The daemon's figures as Prometheus metric families. METRICS.md lists them; each shows what one
// field of StatsResponse says, and a mount that is not in it has none.
#ifndef PBKFS_SERVICE_METRICS_METRICS_H_
#define PBKFS_SERVICE_METRICS_METRICS_H_

#include <vector>

#include "pbkfs/v1/mount.pb.h"
#include "prometheus/metric_family.h"

namespace pbkfs {

std::vector<prometheus::MetricFamily> MetricFamiliesOf(const v1::StatsResponse& stats);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_METRICS_METRICS_H_
