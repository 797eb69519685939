// binding.json: what a diff belongs to (proto message DiffBinding), replaced atomically.
#ifndef PBKFS_FS_DIFF_BINDING_H_
#define PBKFS_FS_DIFF_BINDING_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/io.h"
#include "fs/diff/diff_directory.h"
#include "pbkfs/v1/diff.pb.h"

namespace pbkfs {

// The image, and the owner of its files, that a diff is made for.
struct DiffIdentity {
  std::string instance;
  uint64_t system_identifier = 0;
  std::string backup_id;
  std::string start_lsn;  // "X/Y"
  std::string stop_lsn;
  std::string list_hash;  // LowerTree::ListHash()
  uint32_t owner_uid = 0;
  uint32_t owner_gid = 0;
};

v1::DiffBinding MakeBinding(const DiffIdentity& identity);

// OK where `binding` is that of `identity`; FAILED_PRECONDITION (DIFF_BOUND_ELSEWHERE) names the
// difference.
absl::Status CheckBinding(const v1::DiffBinding& binding, const DiffIdentity& identity,
                          const std::string& path);

// Nothing where the directory has no file `name`. DATA_LOSS (DIFF_CORRUPT) where it can't be
// parsed or does not fit its checksum, UNIMPLEMENTED (UNSUPPORTED_FORMAT) where a newer program
// wrote it.
absl::StatusOr<std::optional<v1::DiffBinding>> ReadBinding(IoDir& directory,
                                                           const char* name = kBindingName);

// With its checksum. Durable when it returns.
absl::Status WriteBinding(IoDir& directory, v1::DiffBinding binding);

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_BINDING_H_
