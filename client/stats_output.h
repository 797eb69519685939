// What `pbkfs stats` prints: totals, or with --watch what happened between two samples: rates, hit
// ratios, latencies from the histograms, growth of the diff, the oldest request.
#ifndef PBKFS_CLIENT_STATS_OUTPUT_H_
#define PBKFS_CLIENT_STATS_OUTPUT_H_

#include <optional>
#include <string>

#include "pbkfs/v1/mount.pb.h"

namespace pbkfs::client {

// Totals since the mounts were made: a table of mounts, or all there is to say about a single one.
std::string StatsText(const v1::StatsResponse& response);

// `now` with the counters of `before` taken off. Gauges stay, and so does a mount that `before`
// does not have. A counter that began again (its worker died) stays as it is.
v1::StatsResponse StatsSince(const v1::StatsResponse& now, const v1::StatsResponse& before);

// The seconds below which the fraction `quantile` of what `durations` counts lies, with straight
// lines within buckets; nothing where it counts nothing; infinite where it lies past the last
// bound.
std::optional<double> Quantile(const v1::DurationHistogram& durations, double quantile);

// Makes what --watch prints of one sample after the other. Counters of the daemon never go back:
// --reset takes off what was there at the first sample.
class StatsWatch {
 public:
  explicit StatsWatch(bool reset) : reset_(reset) {}

  // False where there is nothing to print yet.
  bool Add(v1::StatsResponse sample);
  // Lines for the last sample: since the one before it, or with reset since the first. The first
  // lines without reset are averages since the mounts were made.
  std::string Text();
  // For programs: totals, or with reset those since the first sample.
  v1::StatsResponse Totals() const;

 private:
  const bool reset_;
  std::optional<v1::StatsResponse> base_;
  v1::StatsResponse now_;
  int lines_ = 0;  // Since the last header.
};

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_STATS_OUTPUT_H_
