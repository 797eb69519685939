// How the backups of an instance descend from one another, and so which of them can be mounted
// (format document, section 1.3). Looks at control files only.
//
// All backups are judged when a Lineage is made, in time that is linear in their number but for a
// sort: a chain is judged once, and its descendants take the verdict over. Immutable after that;
// the backups outlive it.
#ifndef PBKFS_FS_CATALOG_LINEAGE_H_
#define PBKFS_FS_CATALOG_LINEAGE_H_

#include <cstddef>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/catalog/catalog.h"

namespace pbkfs {

class Lineage {
 public:
  // With `force` CORRUPT and ORPHAN are good enough.
  Lineage(const std::vector<Backup>& backups, bool force);

  // Whether `backup`, an element of `backups`, could be mounted: OK, or the error that a mount
  // would give.
  //   FAILED_PRECONDITION CHAIN_INCOMPLETE   a parent is missing, or the chain does not end in a
  //   FULL FAILED_PRECONDITION BACKUP_NOT_USABLE  a member is not OK or DONE, or can't be read
  //   DATA_LOSS CATALOG_CORRUPT              members contradict one another
  //   UNIMPLEMENTED UNSUPPORTED_FORMAT       block size, program version
  absl::Status Check(const Backup& backup) const;
  // The members of its chain, FULL first; fails as Check does.
  absl::StatusOr<std::vector<const Backup*>> ChainOf(const Backup& backup) const;
  // The backup with this id as it is written in control files; nullptr where there is none.
  const Backup* Find(absl::string_view id) const;

 private:
  enum class Verdict {
    kMountable,
    kMember,         // `where` is not usable, for `cause`.
    kEndsEarly,      // `where` is no FULL and names no parent.
    kParentMissing,  // That of `where`, says `cause`.
    kTooLong,
  };
  // Where the way from a backup down to its FULL ends.
  struct End {
    Verdict verdict = Verdict::kMountable;
    const Backup* where = nullptr;
    absl::Status cause;
    size_t length = 1;  // Members up to `where`.
  };

  size_t IndexOf(const Backup& backup) const;
  End Follow(const Backup& backup, const std::vector<absl::Status>& own) const;

  const std::vector<Backup>& backups_;
  absl::flat_hash_map<absl::string_view, const Backup*> by_id_;
  std::vector<End> ends_;  // One for each backup, in their order.
};

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_LINEAGE_H_
