// A chain: a FULL backup and the increments up to the backup that is wanted, checked and ready to
// be read (format document, sections 1.3 and 13).
#ifndef PBKFS_FS_CATALOG_CHAIN_H_
#define PBKFS_FS_CATALOG_CHAIN_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/base/unique_fd.h"
#include "fs/catalog/backup_control.h"
#include "fs/catalog/beneath.h"
#include "fs/catalog/catalog.h"
#include "fs/catalog/chain_files.h"
#include "fs/catalog/chain_watch.h"
#include "fs/catalog/format_rules.h"

namespace pbkfs {

struct ChainMember {
  std::string id;
  std::string directory;  // Name in the instance directory.
  std::string path;       // Absolute, for messages.
  UniqueFd directory_fd;  // Held as long as the chain.
  BackupControl control;
  FormatRules format;             // Of control.program_version.
  FileIdentity control_identity;  // Of backup.control when the chain was resolved.
  FileIdentity list_identity;     // Of backup_content.control, likewise.
  uint32_t list_crc = 0;          // CRC-32C of its whole content.
};

struct Chain {
  std::shared_ptr<const Instance> instance;
  std::vector<std::unique_ptr<const ChainMember>>
      members;  // [0] is the FULL, back() the backup that is wanted.
  ChainFiles files;
  const ChainMember& tip() const { return *members.back(); }

  // OK while backup.control of member `index` says what it said at resolution; otherwise
  // UNAVAILABLE with what changed (errno EIO). A rewrite that only changes what does not concern
  // the files (a note, a pin, DONE to OK) is no change. chain_watch.h has the rules.
  absl::Status CheckUnchanged(size_t index) const;
  // The same of all members.
  absl::Status CheckAll() const;
  // The same from memory, at most two seconds old: cheap enough for every read.
  absl::Status State() const;
  // A regular file of a member that is unchanged. `path` is relative to the backup's directory.
  absl::StatusOr<OpenedFile> Open(size_t index, absl::string_view path) const;

  std::unique_ptr<ChainWatch> watch;
};

// The members of the chain of `backup`, FULL first, or the error that a mount would give
// (lineage.h). Looks at control files only.
absl::StatusOr<std::vector<const Backup*>> FindChain(const std::vector<Backup>& backups,
                                                     const Backup& backup, bool force);

// Picks a backup by id (any case), or, for "" and "latest", the newest that can be mounted; where
// there is none, the error is that of the newest. NOT_FOUND (BACKUP_NOT_FOUND) names the closest
// that there are.
absl::StatusOr<const Backup*> FindBackup(const std::vector<Backup>& backups, absl::string_view id,
                                         bool force);

// Resolves and loads: control files, statuses, order, versions, file lists with their content-crc.
//   FAILED_PRECONDITION CHAIN_INCOMPLETE     a parent is missing, or the chain does not end in a
//   FULL FAILED_PRECONDITION BACKUP_NOT_USABLE    a member is not OK or DONE (`force` lets CORRUPT
//   and ORPHAN through) DATA_LOSS CATALOG_CORRUPT                a list's CRC or syntax
//   UNIMPLEMENTED UNSUPPORTED_FORMAT         block size, program version, codec
absl::StatusOr<std::shared_ptr<const Chain>> ResolveChain(std::shared_ptr<const Instance> instance,
                                                          absl::string_view backup_id, bool force);

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_CHAIN_H_
