#include "fs/image/page_errors.h"

#include <spdlog/spdlog.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/image/limits.h"

namespace pbkfs {

bool PageErrors::MayLog(uint64_t& suppressed) {
  const int64_t now = std::chrono::duration_cast<std::chrono::seconds>(
                          std::chrono::steady_clock::now().time_since_epoch())
                          .count();
  MutexLock lock(&mutex_);
  if (now != second_) {
    second_ = now;
    lines_ = 0;
  }
  if (lines_ == kErrorLinesPerSecond) {
    ++suppressed_;
    return false;
  }
  ++lines_;
  suppressed = std::exchange(suppressed_, 0);
  return true;
}

absl::Status PageErrors::Report(IoStats* stats, IoCounter kind, absl::string_view where,
                                const absl::Status& cause) {
  if (stats != nullptr) stats->Add(kind);
  uint64_t suppressed = 0;
  if (MayLog(suppressed)) {
    spdlog::error("{}: {}{}", std::string(where), std::string(cause.message()),
                  suppressed == 0 ? "" : fmt::format(" ({} earlier lines left out)", suppressed));
  }
  if (absl::IsUnavailable(cause)) return Annotate(cause, where);
  return WithReason(ErrnoError(EIO, absl::StrCat(where, ": ", cause.message())),
                    reason::kCatalogCorrupt);
}

absl::Status PageErrors::Report(IoStats* stats, IoCounter kind, absl::string_view where,
                                absl::string_view cause) {
  return Report(stats, kind, where, absl::DataLossError(cause));
}

}  // namespace pbkfs
