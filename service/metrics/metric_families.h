// Builds prometheus-cpp's metric families: one Add for each sample, families in the order of their
// first sample.
#ifndef PBKFS_SERVICE_METRICS_METRIC_FAMILIES_H_
#define PBKFS_SERVICE_METRICS_METRIC_FAMILIES_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "prometheus/metric_family.h"

namespace pbkfs {

class MetricFamilies {
 public:
  using Labels = std::vector<std::pair<std::string, std::string>>;

  void Counter(const char* name, const char* help, const Labels& labels, double value);
  void Gauge(const char* name, const char* help, const Labels& labels, double value);
  // `buckets` has a count for each bound and one more for +Inf; not cumulative.
  void Histogram(const char* name, const char* help, const Labels& labels,
                 absl::Span<const double> bounds, absl::Span<const uint64_t> buckets, double sum);

  std::vector<prometheus::MetricFamily> Take() { return std::move(families_); }

 private:
  prometheus::ClientMetric& Sample(const char* name, const char* help, const Labels& labels,
                                   prometheus::MetricType type);

  std::vector<prometheus::MetricFamily> families_;
  std::map<std::string, size_t> index_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_METRICS_METRIC_FAMILIES_H_
