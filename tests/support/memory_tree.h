// A LowerTree in memory, for tests of the overlay: no backup, no PostgreSQL.
#ifndef PBKFS_TESTS_SUPPORT_MEMORY_TREE_H_
#define PBKFS_TESTS_SUPPORT_MEMORY_TREE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fs/base/lower_tree.h"

namespace pbkfs::testsupport {

class MemoryTree : public LowerTree {
 public:
  struct Entry {
    uint32_t mode = 0;
    std::string content;
  };
  // By path ("a/b"); directories that are missing on the way are added with mode 0700.
  explicit MemoryTree(std::map<std::string, Entry> entries);

  uint64_t NodeCount() const override { return nodes_.size(); }
  std::optional<LowerNode> Node(LowerIno ino) const override;
  std::optional<LowerNode> Lookup(LowerIno directory, absl::string_view name) const override;
  absl::Span<const LowerIno> Children(LowerIno directory) const override;
  absl::StatusOr<std::shared_ptr<const LowerFile>> Open(LowerIno ino) const override;
  absl::StatusOr<std::string> ReadLink(LowerIno ino) const override;
  absl::Time Time() const override { return absl::FromUnixSeconds(1700000000); }
  std::string ListHash() const override { return "memory"; }

  // While set, every read of every file fails: the catalog is away.
  void set_unavailable(bool unavailable) { *unavailable_ = unavailable; }

 private:
  struct NodeData {
    std::string name;
    LowerIno parent = 0;
    Entry entry;
    std::vector<LowerIno> children;
  };
  std::vector<NodeData> nodes_;  // [ino - 1]
  std::shared_ptr<bool> unavailable_ = std::make_shared<bool>(false);
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_MEMORY_TREE_H_
