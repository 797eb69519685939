// The names that the diff added to and removed from the image's directories, and the merged view of
// both. Directories are known by inode number, so that renaming one moves its children with it. Not
// thread-safe: the overlay guards the table with its namespace lock.
#ifndef PBKFS_FS_DIFF_DIRECTORY_TABLE_H_
#define PBKFS_FS_DIFF_DIRECTORY_TABLE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "fs/base/lower_tree.h"

namespace pbkfs {

class DirectoryTable {
 public:
  struct Entry {
    uint64_t ino = 0;
    uint64_t cookie = 0;  // The permanent readdir offset.
  };
  // Returns false to stop.
  using Visitor = std::function<bool(absl::string_view name, const Entry& entry)>;

  std::optional<Entry> Lookup(const LowerTree& lower, uint64_t parent,
                              absl::string_view name) const;
  // Adds a name that does not exist.
  void Add(uint64_t parent, absl::string_view name, const Entry& entry);
  // Removes a name: an added one is forgotten, one of the image is hidden.
  void Remove(const LowerTree& lower, uint64_t parent, absl::string_view name);
  // Hides a name of the image (replay of a checkpoint).
  void Hide(uint64_t parent, absl::string_view name);
  // Forgets what is known of a directory that was removed.
  void Forget(uint64_t directory) { directories_.erase(directory); }

  // Visits the names of a directory whose cookie is greater than `after`, in ascending order of
  // cookies.
  void List(const LowerTree& lower, uint64_t parent, uint64_t after, const Visitor& visit) const;
  bool Empty(const LowerTree& lower, uint64_t parent) const;

  // Visits everything that differs from the image, for a checkpoint.
  void VisitAdded(const std::function<void(uint64_t parent, absl::string_view name, const Entry&)>&
                      visit) const;
  void VisitHidden(const std::function<void(uint64_t parent, absl::string_view name)>& visit) const;

 private:
  struct Directory {
    absl::flat_hash_map<std::string, Entry> added;
    absl::btree_map<uint64_t, std::string> by_cookie;  // Of `added`.
    absl::flat_hash_set<std::string> hidden;
  };
  absl::flat_hash_map<uint64_t, Directory> directories_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_DIRECTORY_TABLE_H_
