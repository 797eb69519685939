// Any bytes as a history file: what is accepted ascends without a gap.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "fs/catalog/timeline_history.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint32_t kTimeline = 9;
  const auto path = pbkfs::ParseTimelineHistory(
      absl::string_view(reinterpret_cast<const char*>(data), size), kTimeline);
  if (!path.ok()) return 0;
  if (path->empty() || path->back().timeline != kTimeline) abort();
  pbkfs::Lsn end = 0;
  uint32_t timeline = 0;
  for (const pbkfs::TimelineSpan& span : *path) {
    if (span.begin != end || span.end < span.begin || span.timeline <= timeline) abort();
    end = span.end;
    timeline = span.timeline;
  }
  if (end != pbkfs::kMaxLsn) abort();
  return 0;
}
