// The page at `/` of the metrics address: plain HTML that a person reads on a phone at night. No
// scripts, no external assets; the browser asks for it again every few seconds.
#ifndef PBKFS_SERVICE_METRICS_STATUS_PAGE_H_
#define PBKFS_SERVICE_METRICS_STATUS_PAGE_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "pbkfs/v1/mount.pb.h"

namespace pbkfs {

// What the page shows, all of one moment.
struct StatusPageInput {
  v1::StatsResponse stats;
  v1::ListMountsResponse mounts;
  std::vector<std::string> not_ready;  // Empty = the daemon is ready.
};

// The whole document. Ids, paths and messages come from requests and catalogs: all are escaped.
std::string StatusPage(const StatusPageInput& input);

// `text` for an element's content or a quoted attribute; control characters and what is not UTF-8
// are replaced.
std::string EscapeHtml(absl::string_view text);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_METRICS_STATUS_PAGE_H_
