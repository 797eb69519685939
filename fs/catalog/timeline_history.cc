#include "fs/catalog/timeline_history.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "fs/base/status.h"
#include "fs/catalog/control_file.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

absl::Status Corrupt(uint32_t timeline, size_t line, absl::string_view what) {
  return ReasonError(
      absl::StatusCode::kDataLoss, reason::kCatalogCorrupt,
      absl::StrCat(TimelineHistoryName(timeline), " line ", line, ": ", what,
                   "; put back the file as the server wrote it, or name another timeline"));
}

}  // namespace

std::string TimelineHistoryName(uint32_t timeline) {
  return absl::StrFormat("%08X.history", timeline);
}

absl::StatusOr<TimelinePath> ParseTimelineHistory(absl::string_view text, uint32_t timeline) {
  TimelinePath path;
  Lsn begin = 0;
  size_t number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    TimelineSpan span;
    if (words.size() < 2 || !absl::SimpleAtoi(words[0], &span.timeline) || span.timeline == 0) {
      return Corrupt(timeline, number, "no timeline and LSN");
    }
    if (!ParseLsn(words[1], span.end) || span.end > kMaxLsn) {
      return Corrupt(timeline, number, "no timeline and LSN");
    }
    span.begin = begin;
    if (!path.empty() && (span.timeline <= path.back().timeline || span.end < begin)) {
      return Corrupt(timeline, number, "timelines do not ascend");
    }
    if (path.size() == kMaxTimelines) return Corrupt(timeline, number, "too many timelines");
    begin = span.end;
    path.push_back(span);
  }
  if (!path.empty() && path.back().timeline >= timeline) {
    return Corrupt(timeline, number, "timelines do not ascend");
  }
  TimelineSpan last;
  last.timeline = timeline;
  last.begin = begin;
  path.push_back(last);
  return path;
}

}  // namespace pbkfs
