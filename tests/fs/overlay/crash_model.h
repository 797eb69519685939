// What may be in a diff after a crash, by FORMAT.md, "Recovery":
//   death of the process    what was replied to, and the operation in flight as a whole or in part
//   death of the machine    names and attributes as of some moment since they were last durable;
//                           each byte of a file as in some state of it since its last fsync
#ifndef PBKFS_TESTS_FS_OVERLAY_CRASH_MODEL_H_
#define PBKFS_TESTS_FS_OVERLAY_CRASH_MODEL_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "fs/overlay/overlay.h"

namespace pbkfs::testsupport {

// One name as it is found: what it leads to.
struct CrashNode {
  uint64_t ino = 0;
  uint32_t mode = 0;  // With the type.
  uint32_t uid = 0;
  uint32_t nlink = 0;
  std::string content;  // Of a file or a symlink.
};
using CrashTree = std::map<std::string, CrashNode>;  // By path; the root is not in it.

// Everything that `overlay` shows.
absl::StatusOr<CrashTree> ReadTree(Overlay& overlay);
absl::StatusOr<std::string> ReadInode(Overlay& overlay, uint64_t ino);

class CrashModel {
 public:
  // One name in the model; names of one object share the number.
  struct Name {
    int object = 0;
    uint32_t mode = 0;
    uint32_t uid = 0;
    std::string symlink;
    bool IsDirectory() const;
    bool IsFile() const;
  };
  using Names = std::map<std::string, Name>;  // By path.

  // Takes what was found as the state that everything is measured against: all of it is durable.
  void Adopt(const CrashTree& tree);

  const Names& names() const { return names_.back(); }
  const std::string& content(int object) const { return files_.at(object).back(); }
  std::vector<std::string> Directories() const;  // "" and every directory's path.
  bool IsEmptyDirectory(const std::string& path) const;

  // ---- operations: possible from here on, certain once Replied() ----
  int NewObject() { return next_object_++; }
  // The names change; `changed` are the objects whose fsync makes that durable.
  void NamesAre(Names names, const std::vector<int>& changed);
  void ContentIs(int object, std::string content);
  void Replied() { names_in_flight_ = false, file_in_flight_ = -1; }

  // ---- durability ----
  void Fsynced(int object);
  void ContentConfirmed(int object);
  void NamesDurable();
  void AllDurable();

  // The last change of names failed without any effect.
  void NamesDidNotChange();

  // The process died and the page cache is whole.
  void OnlyTheLastStates();
  // Whether something that is allowed explains `tree`; what contradicts it otherwise.
  bool Explains(const CrashTree& tree, std::string* contradiction) const;

 private:
  using States = std::vector<std::string>;  // Of a file's bytes, from the last that was confirmed.

  static bool Explains(const States& states, const std::string& bytes);
  static bool ExplainsByte(const States& states, const std::string& bytes, size_t i);
  std::string Contradiction(const Names& names, const CrashTree& tree) const;
  void DurableUpTo(size_t moment);

  std::vector<Names> names_;  // Since the last moment that is known to be durable.
  std::map<int, States> files_;
  std::map<int, size_t> last_change_;         // Of an object's names: index into names_.
  std::map<int, size_t> last_change_before_;  // The last change of names.
  int next_object_ = 0;
  bool names_in_flight_ = false;
  int file_in_flight_ = -1;
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_FS_OVERLAY_CRASH_MODEL_H_
