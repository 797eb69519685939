// Checks a diff that nobody has mounted: that its binding, its log and its data files are whole and
// agree with each other, and that what the log tells is a file system. FORMAT.md, "Check", has the
// invariants.
//
// Reads the diff as a mount would, through the same functions, but changes nothing unless it is
// told to repair. Memory is in proportion to the log and bounded by limits.h; nothing that stands
// in a diff directory can end the process. The bytes in the data files have no checksums: what
// PostgreSQL's own page checksums tell of them, pg_amcheck and pg_checksums tell.
#ifndef PBKFS_FS_DIFF_CHECK_H_
#define PBKFS_FS_DIFF_CHECK_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "fs/base/io.h"
#include "fs/base/lower_tree.h"
#include "fs/diff/check_findings.h"
#include "fs/diff/replay.h"
#include "pbkfs/v1/diff.pb.h"

namespace pbkfs {

struct DiffCheckOptions {
  // The image of the diff (the caller compared the binding). Null = not known: what only it can
  // tell is taken as given.
  const LowerTree* lower = nullptr;
  // Remove what an interrupted open left, empty trash/, move data files that the log does not know
  // there first. Nothing is touched where there are errors.
  bool repair = false;
};

struct DiffCheckReport {
  DiffFindings findings;
  std::optional<v1::DiffBinding> binding;  // Where it can be read.
  // How the last mount ended, as the next one will see it. Unset where the log does not tell.
  std::optional<ShutdownKind> shutdown;
  int64_t log_bytes = 0;
  uint64_t inodes = 0;
  uint64_t data_files = 0;  // That the log knows.
  int64_t present_blocks = 0;
};

// NOT_FOUND where there is no directory at `path`; FAILED_PRECONDITION DIFF_BOUND_ELSEWHERE where
// it is not a diff, DIFF_IN_USE where it is mounted or being checked; UNIMPLEMENTED where a newer
// program wrote it; the errors of the operating system. Everything else is a finding.
absl::StatusOr<DiffCheckReport> CheckDiff(Io& io, const std::string& path,
                                          const DiffCheckOptions& options);

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_CHECK_H_
