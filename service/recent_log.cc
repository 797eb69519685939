#include "service/recent_log.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "service/limits.h"

namespace pbkfs {

void RecentLog::Add(absl::Time time, absl::string_view level, absl::string_view text) {
  std::string line = absl::StrCat(
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone()), " ", level, " ",
      text.substr(0, kMaxRecentLogLineBytes), text.size() > kMaxRecentLogLineBytes ? "…" : "");
  // One entry is one line, whatever a message holds.
  std::replace(line.begin(), line.end(), '\n', ' ');
  MutexLock lock(&mutex_);
  lines_.push_back(std::move(line));
  if (lines_.size() > kMaxRecentLogLines) lines_.pop_front();
}

std::vector<std::string> RecentLog::Lines(size_t most) const {
  MutexLock lock(&mutex_);
  const size_t count = std::min(most, lines_.size());
  return {lines_.end() - static_cast<std::ptrdiff_t>(count), lines_.end()};
}

RecentLog& ProcessRecentLog() {
  // Never destroyed: threads may log until the end of the process.
  static auto* const log = new RecentLog;
  return *log;
}

}  // namespace pbkfs
