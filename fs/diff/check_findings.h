// What a check of a diff found. The codes are listed in FORMAT.md, "Check".
#ifndef PBKFS_FS_DIFF_CHECK_FINDINGS_H_
#define PBKFS_FS_DIFF_CHECK_FINDINGS_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "fs/diff/limits.h"

namespace pbkfs {

enum class FindingSeverity {
  kInfo,     // Nothing is wrong.
  kWarning,  // Something is not as a clean unmount leaves it; no byte is in doubt.
  kError,    // Something contradicts itself or is missing: the diff can't be trusted.
};

struct DiffFinding {
  FindingSeverity severity = FindingSeverity::kInfo;
  std::string code;     // LOG_DAMAGED …
  std::string subject;  // A name in the diff directory, or "inode N"; "" = the diff.
  std::string message;
  std::string remedy;     // What a repair does about it; "" = nothing.
  bool repaired = false;  // It was done.
};

// Findings in the order in which they were made. Keeps the first kMaxFindings and counts the rest,
// so that a diff that is nothing but damage does not fill the memory.
class DiffFindings {
 public:
  void Error(absl::string_view code, std::string subject, std::string message) {
    Add({FindingSeverity::kError, std::string(code), std::move(subject), std::move(message), "",
         false});
  }
  void Add(DiffFinding finding) {
    if (finding.severity == FindingSeverity::kError) ++errors_;
    if (finding.severity == FindingSeverity::kWarning) ++warnings_;
    if (list_.size() < kMaxFindings) {
      list_.push_back(std::move(finding));
    } else {
      ++omitted_;
    }
  }

  std::vector<DiffFinding>& list() { return list_; }
  const std::vector<DiffFinding>& list() const { return list_; }
  size_t errors() const { return errors_; }
  size_t warnings() const { return warnings_; }
  size_t omitted() const { return omitted_; }

 private:
  std::vector<DiffFinding> list_;
  size_t errors_ = 0;
  size_t warnings_ = 0;
  size_t omitted_ = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_CHECK_FINDINGS_H_
