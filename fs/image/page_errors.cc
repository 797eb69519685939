#include "fs/image/page_errors.h"

#include <spdlog/spdlog.h>

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"

namespace pbkfs {

absl::Status ReportPageError(IoStats* stats, IoCounter kind, absl::string_view where,
                             const absl::Status& cause) {
  if (stats != nullptr) stats->Add(kind);
  spdlog::error("{}: {}", std::string(where), std::string(cause.message()));
  if (absl::IsUnavailable(cause)) return Annotate(cause, where);
  return WithReason(ErrnoError(EIO, absl::StrCat(where, ": ", cause.message())),
                    reason::kCatalogCorrupt);
}

absl::Status ReportPageError(IoStats* stats, IoCounter kind, absl::string_view where,
                             absl::string_view cause) {
  return ReportPageError(stats, kind, where, absl::DataLossError(cause));
}

}  // namespace pbkfs
