// What can be told of a diff at a glance, for a list: no lock is kept, the log is not replayed, and
// nothing is changed.
#ifndef PBKFS_FS_DIFF_DIFF_SUMMARY_H_
#define PBKFS_FS_DIFF_DIFF_SUMMARY_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "fs/base/io.h"
#include "pbkfs/v1/diff.pb.h"

namespace pbkfs {

enum class DiffCondition {
  kClean,        // Unmounted.
  kUnclean,      // Its last mount did not end.
  kNew,          // Made, and never mounted.
  kDamaged,      // The binding or the head of the log can't be read.
  kUnsupported,  // A newer program wrote it.
  kHalfDeleted,  // Its deletion has begun.
};

struct DiffSummary {
  std::optional<v1::DiffBinding> binding;  // Where it can be read.
  DiffCondition condition = DiffCondition::kDamaged;
  bool in_use = false;
  int64_t allocated_bytes = 0;
  int64_t last_use =
      0;  // Nanoseconds since the epoch: when the log, else the binding, was written.
};

// Nothing where the directory at `path` is not a diff; the errors of the operating system where it
// can't be opened.
absl::StatusOr<std::optional<DiffSummary>> ReadDiffSummary(Io& io, const std::string& path);

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_DIFF_SUMMARY_H_
