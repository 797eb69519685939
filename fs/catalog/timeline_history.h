// Timelines of a cluster: history files, and the way from a backup to a later timeline.
//
// A history file "<TLI>.history" has a line for each ancestor of the timeline, oldest first:
// "<tli> TAB <LSN> TAB <reason>"; the LSN is where the next line's timeline (or, on the last line,
// the file's own) left it.
#ifndef PBKFS_FS_CATALOG_TIMELINE_HISTORY_H_
#define PBKFS_FS_CATALOG_TIMELINE_HISTORY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/catalog/backup_control.h"

namespace pbkfs {

// "0000000A.history"
std::string TimelineHistoryName(uint32_t timeline);

// A stretch of the log: from `begin` to `end` it is written by `timeline`.
struct TimelineSpan {
  uint32_t timeline = 0;
  Lsn begin = 0;
  Lsn end = kMaxLsn;
};
// Oldest first; each begins where the one before ends. The last one has no end.
using TimelinePath = std::vector<TimelineSpan>;

// The path to `timeline` from the text of its history file. DATA_LOSS (CATALOG_CORRUPT) for what no
// server would have written.
absl::StatusOr<TimelinePath> ParseTimelineHistory(absl::string_view text, uint32_t timeline);

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_TIMELINE_HISTORY_H_
