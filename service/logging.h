// The daemon's log: spdlog on stderr, as text or as one JSON object a line. Rooms below log with
// spdlog directly; the control plane logs events, a name and fields, so that programs can read
// them.
//
// Warnings and errors are also kept in memory, for DebugDump (service/recent_log.h), without what
// was marked as private.
//
// A record is one line, whatever is in the names that it tells of: control characters are escaped.
// Warnings and errors that repeat are rate-limited (service/log_repeats.h); events are not.
//
// SetUpLogging is called once, before any thread starts. Everything else may be called from any
// thread.
#ifndef PBKFS_SERVICE_LOGGING_H_
#define PBKFS_SERVICE_LOGGING_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "spdlog/common.h"

namespace pbkfs {

enum class LogFormat : uint8_t { kText, kJson };

// INVALID_ARGUMENT for a level that is not one of trace, debug, info, warn, error.
absl::Status SetUpLogging(absl::string_view level, LogFormat format);

// One of trace, debug, info, warn, error; INVALID_ARGUMENT (INVALID_FIELD) for another one.
absl::Status CheckLogLevel(absl::string_view level);
absl::Status SetLogLevel(absl::string_view level);
std::string LogLevel();

// One line of the log: LogEvent(spdlog::level::info, "mount").Field("mount", id).Field("chain",
// text). The line is written by the destructor.
class LogEvent {
 public:
  LogEvent(spdlog::level::level_enum level, absl::string_view name);
  ~LogEvent();
  LogEvent(const LogEvent&) = delete;
  LogEvent& operator=(const LogEvent&) = delete;

  LogEvent& Field(absl::string_view name, absl::string_view value);
  LogEvent& Field(absl::string_view name, uint64_t value);
  LogEvent& Field(absl::string_view name, double value);
  // For the log alone: a bug report does not have it.
  LogEvent& PrivateField(absl::string_view name, absl::string_view value);

 private:
  void Raw(absl::string_view name, absl::string_view text, absl::string_view json,
           bool keep = true);

  const spdlog::level::level_enum level_;
  const bool kept_;  // For a bug report.
  std::string line_;
  std::string kept_line_;
};

// `text` as a JSON string with its quotes; bytes that are not UTF-8 are replaced.
std::string JsonQuote(absl::string_view text);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_LOGGING_H_
