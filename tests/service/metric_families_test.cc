#include "service/metrics/metric_families.h"

#include <sstream>
#include <string>

#include "gtest/gtest.h"
#include "prometheus/text_serializer.h"

namespace pbkfs {
namespace {

std::string TextOf(MetricFamilies families) {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families.Take());
  return out.str();
}

TEST(MetricFamilies, SamplesOfOneNameShareAFamily) {
  MetricFamilies families;
  families.Counter("a_total", "help", {{"mount", "x"}}, 1);
  families.Gauge("b", "help", {}, 2);
  families.Counter("a_total", "help", {{"mount", "y"}}, 3);
  EXPECT_EQ(TextOf(std::move(families)),
            "# HELP a_total help\n# TYPE a_total counter\n"
            "a_total{mount=\"x\"} 1\na_total{mount=\"y\"} 3\n"
            "# HELP b help\n# TYPE b gauge\nb 2\n");
}

TEST(MetricFamilies, HistogramBucketsAreCumulativeAndEndWithInfinity) {
  MetricFamilies families;
  const double bounds[] = {0.5, 1};
  const uint64_t buckets[] = {1, 2, 3};
  families.Histogram("h", "help", {}, bounds, buckets, 9);
  const std::string text = TextOf(std::move(families));
  EXPECT_NE(text.find("h_bucket{le=\"0.5\"} 1\n"), std::string::npos) << text;
  EXPECT_NE(text.find("h_bucket{le=\"1\"} 3\n"), std::string::npos) << text;
  EXPECT_NE(text.find("h_bucket{le=\"+Inf\"} 6\n"), std::string::npos) << text;
  EXPECT_NE(text.find("h_count 6\n"), std::string::npos) << text;
  EXPECT_NE(text.find("h_sum 9\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace pbkfs
