#include "service/metrics/metric_families.h"

#include <limits>

namespace pbkfs {

prometheus::ClientMetric& MetricFamilies::Sample(const char* name, const char* help,
                                                 const Labels& labels,
                                                 prometheus::MetricType type) {
  const auto [it, is_new] = index_.try_emplace(name, families_.size());
  if (is_new) families_.push_back(prometheus::MetricFamily{name, help, type, {}});
  prometheus::ClientMetric& metric = families_[it->second].metric.emplace_back();
  for (const auto& [key, value] : labels) {
    prometheus::ClientMetric::Label label;
    label.name = key;
    label.value = value;
    metric.label.push_back(std::move(label));
  }
  return metric;
}

void MetricFamilies::Counter(const char* name, const char* help, const Labels& labels,
                             double value) {
  Sample(name, help, labels, prometheus::MetricType::Counter).counter.value = value;
}

void MetricFamilies::Gauge(const char* name, const char* help, const Labels& labels, double value) {
  Sample(name, help, labels, prometheus::MetricType::Gauge).gauge.value = value;
}

void MetricFamilies::Histogram(const char* name, const char* help, const Labels& labels,
                               absl::Span<const double> bounds, absl::Span<const uint64_t> buckets,
                               double sum) {
  prometheus::ClientMetric& metric = Sample(name, help, labels, prometheus::MetricType::Histogram);
  uint64_t cumulative = 0;
  for (size_t i = 0; i < buckets.size() && i <= bounds.size(); ++i) {
    cumulative += buckets[i];
    prometheus::ClientMetric::Bucket bucket;
    bucket.cumulative_count = cumulative;
    bucket.upper_bound = i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity();
    metric.histogram.bucket.push_back(bucket);
  }
  metric.histogram.sample_count = cumulative;
  metric.histogram.sample_sum = sum;
}

}  // namespace pbkfs
