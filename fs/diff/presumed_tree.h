// A stand-in for the image below a diff that is checked without it: it agrees to everything that
// the log says of the image, as long as the log does not contradict itself.
//
// Files of the image have the largest possible size, so that nothing is known of theirs; names are
// known where a record removes them. Immutable once made.
#ifndef PBKFS_FS_DIFF_PRESUMED_TREE_H_
#define PBKFS_FS_DIFF_PRESUMED_TREE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "fs/base/lower_tree.h"
#include "fs/diff/limits.h"
#include "fs/diff/records.h"

namespace pbkfs {

class PresumedTree : public LowerTree {
 public:
  explicit PresumedTree(const std::vector<DecodedRecord>& records,
                        int64_t file_bytes = kMaxFileBytes);

  // Inodes of the image that the log gives more than one name there.
  const std::vector<LowerIno>& contradictions() const { return contradictions_; }

  uint64_t NodeCount() const override { return kFirstNewIno - 1; }
  // The name is "" where it is not known.
  std::optional<LowerNode> Node(LowerIno ino) const override;
  std::optional<LowerNode> Lookup(LowerIno directory, absl::string_view name) const override;
  absl::Span<const LowerIno> Children(LowerIno) const override { return {}; }
  absl::StatusOr<std::shared_ptr<const LowerFile>> Open(LowerIno ino) const override;
  absl::StatusOr<std::string> ReadLink(LowerIno ino) const override;
  absl::Time Time() const override { return absl::UnixEpoch(); }
  std::string ListHash() const override { return ""; }

 private:
  using Name = std::pair<LowerIno, std::string>;  // Of a directory, and in it.

  // What each kind of record tells.
  void Learn(const CreateRecord& record);
  void Learn(const LinkRecord& record);
  void Learn(const UnlinkRecord& record);
  void Learn(const RenameRecord& record);
  void Learn(const InodeRecord& record);
  void Learn(const DirentRecord& record);
  void Learn(const WhiteoutRecord& record);
  template <typename OtherRecord>
  void Learn(const OtherRecord&) {}

  void LearnDirectory(LowerIno ino);
  void Put(LowerIno parent, const std::string& name);
  void Take(LowerIno parent, const std::string& name, LowerIno ino);

  const int64_t file_bytes_;
  absl::flat_hash_map<LowerIno, uint32_t> modes_;  // Where they are known.
  absl::flat_hash_map<Name, LowerIno> names_;
  absl::flat_hash_map<LowerIno, Name> name_of_;
  std::vector<LowerIno> contradictions_;
  absl::flat_hash_set<Name> added_;  // By the diff, as of the record that is looked at.
};

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_PRESUMED_TREE_H_
