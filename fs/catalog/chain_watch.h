// Notices when the members of a mounted chain are deleted, merged, or replaced.
//
// pg_probackup replaces files by rename and never writes into one that is there, so a file that is
// open keeps its bytes; what has to be noticed is that the next one belongs to another backup.
// Every change of a backup begins with a new backup.control: a member is unchanged while that file
// is the one that was read when the chain was resolved (device, inode, size, time stamp), or
// another one that says the same (a note, a pin, OK for DONE, and the end of a merge whose result
// was mounted do not concern the files) beside a list of files with the same CRC.
//
// A member whose directory is gone is looked for under its name, and used again where the same
// holds for what is there; its stored files are then new ones for whoever compares identities.
//
// Thread-safe. No lock is held while the catalog is looked at.
#ifndef PBKFS_FS_CATALOG_CHAIN_WATCH_H_
#define PBKFS_FS_CATALOG_CHAIN_WATCH_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/base/mutex.h"
#include "fs/base/unique_fd.h"
#include "fs/catalog/backup_control.h"
#include "fs/catalog/beneath.h"

namespace pbkfs {

struct Chain;
struct ChainMember;

// UNAVAILABLE for the control plane, EIO for applications that read.
absl::Status CatalogChanged(absl::string_view what);

// The first difference that concerns the files of a backup, or "".
absl::string_view ControlDifference(const BackupControl& before, const BackupControl& now);

class ChainWatch {
 public:
  // `chain` owns the watch.
  explicit ChainWatch(const Chain& chain);

  // Looks at one member now.
  absl::Status Check(size_t index);
  // Looks at all members now.
  absl::Status CheckAll();
  // The state of the whole chain, at most kCatalogCheckPeriod old (and as old as a look at the
  // catalog takes). Costs one clock reading in between: every read may ask.
  absl::Status State();
  // Opens a regular file of a member. What is returned was there while the member was unchanged.
  absl::StatusOr<OpenedFile> Open(size_t index, absl::string_view path);

 private:
  using Directory = std::shared_ptr<const UniqueFd>;
  struct Member {
    Directory directory;  // Null = the one of the ChainMember.
    FileIdentity control;
    FileIdentity list;
    absl::Status status;
  };

  Member Snapshot(size_t index);
  int DirectoryOf(size_t index, const Member& member) const;
  // Brings `member` up to date, or fails with why it is not the member that was resolved.
  absl::Status Examine(size_t index, Member& member) const;
  absl::Status Compare(size_t index, int directory, Member& member) const;
  absl::StatusOr<UniqueFd> FindDirectory(const ChainMember& member) const;
  absl::Status CombinedStatus();

  const Chain& chain_;
  std::atomic<int64_t> next_check_ms_{0};
  std::atomic<bool> failed_{false};  // Some member's status is not OK.
  Mutex mutex_;
  std::vector<Member> members_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_CHAIN_WATCH_H_
