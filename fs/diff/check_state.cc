#include "fs/diff/check_state.h"

#include <sys/stat.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace pbkfs {
namespace {

std::string Subject(uint64_t ino) { return absl::StrCat("inode ", ino); }

std::string Where(uint64_t parent, absl::string_view name) {
  return absl::StrCat("the name '", name, "' in directory ", parent);
}

class StateChecker {
 public:
  StateChecker(const DiffState& state, const LowerTree& lower, bool image_known,
               DiffFindings* findings)
      : state_(state), lower_(lower), image_known_(image_known), findings_(*findings) {}

  void Run() {
    state_.names.VisitHidden(
        [this](uint64_t parent, absl::string_view name) { TakeHidden(parent, name); });
    state_.names.VisitAdded(
        [this](uint64_t parent, absl::string_view name, const DirectoryTable::Entry& entry) {
          TakeAdded(parent, name, entry);
        });
    for (const auto& [ino, inode] : state_.inodes) {
      CheckInode(*inode);
      CheckLinks(*inode);
    }
    CheckTree();
  }

 private:
  using Name = std::pair<uint64_t, std::string>;

  const InodeState* Find(uint64_t ino) const {
    const auto found = state_.inodes.find(ino);
    return found == state_.inodes.end() ? nullptr : found->second.get();
  }

  bool IsDirectory(uint64_t ino) const {
    if (const InodeState* inode = Find(ino)) return inode->IsDirectory();
    if (ino >= kFirstNewIno) return false;
    const auto node = lower_.Node(ino);
    return node.has_value() && S_ISDIR(node->mode);
  }

  void TakeHidden(uint64_t parent, absl::string_view name) {
    hidden_.emplace(parent, std::string(name));
    if (parent >= kFirstNewIno) {
      findings_.Error("NAME_PARENT", Subject(parent),
                      absl::StrCat(Where(parent, name),
                                   " hides a name of the image, and that "
                                   "directory is none of the image's"));
    } else if (image_known_ && !lower_.Lookup(parent, name).has_value()) {
      findings_.Error("NAME_TARGET", Subject(parent),
                      absl::StrCat(Where(parent, name), " is hidden, and the image has none"));
    }
  }

  void TakeAdded(uint64_t parent, absl::string_view name, const DirectoryTable::Entry& entry) {
    if (name.empty() || name.size() > kMaxNameBytes || name == "." || name == ".." ||
        absl::StrContains(name, '/') || absl::StrContains(name, '\0')) {
      findings_.Error("NAME_INVALID", Subject(entry.ino),
                      absl::StrCat(Where(parent, name), " is not a name"));
    }
    if (!cookies_.insert(entry.cookie).second ||
        entry.cookie >= kCookieAddedBase + state_.next_sequence) {
      findings_.Error("NAME_OFFSET", Subject(entry.ino),
                      absl::StrCat(Where(parent, name), " has the directory offset ", entry.cookie,
                                   ", which is another name's or was never given away"));
    }
    const InodeState* directory = Find(parent);
    if (!IsDirectory(parent) || (directory != nullptr && directory->nlink == 0)) {
      findings_.Error("NAME_PARENT", Subject(parent),
                      absl::StrCat(Where(parent, name), " is in what is no directory"));
    } else {
      directories_.insert(parent);
    }
    // Every inode whose name changed is in the state.
    const InodeState* inode = Find(entry.ino);
    if (inode == nullptr) {
      findings_.Error("NAME_TARGET", Subject(entry.ino),
                      absl::StrCat(Where(parent, name), " belongs to an inode that is not there"));
      return;
    }
    if (image_known_ && parent < kFirstNewIno && !hidden_.contains(Name(parent, name)) &&
        lower_.Lookup(parent, name).has_value()) {
      findings_.Error("NAME_TARGET", Subject(entry.ino),
                      absl::StrCat(Where(parent, name), " is there twice, once from the image"));
    }
    ++names_of_[entry.ino];
    if (inode->IsDirectory()) {
      parent_of_[entry.ino] = parent;
      directories_.insert(entry.ino);
    }
  }

  void CheckInode(const InodeState& inode) {
    const FileLayout& layout = inode.layout;
    const bool is_new = inode.ino >= kFirstNewIno;
    if (inode.ino == 0 || (is_new && inode.ino >= state_.next_ino) ||
        (!is_new && !lower_.Node(inode.ino).has_value())) {
      findings_.Error(
          "INODE_NUMBER", Subject(inode.ino),
          absl::StrCat("the number was never given away; the next one is ", state_.next_ino));
    }
    const bool known_type = S_ISREG(inode.mode) || S_ISDIR(inode.mode) || S_ISLNK(inode.mode) ||
                            S_ISFIFO(inode.mode) || S_ISSOCK(inode.mode) || S_ISCHR(inode.mode) ||
                            S_ISBLK(inode.mode);
    if (!known_type || (layout.has_data && !S_ISREG(inode.mode)) ||
        (is_new && S_ISLNK(inode.mode) == inode.symlink.empty()) ||
        inode.symlink.size() > kMaxSymlinkBytes) {
      findings_.Error("INODE_KIND", Subject(inode.ino),
                      absl::StrCat("its content is not that of a file of mode ", inode.mode));
    }
    const bool shows_image = !is_new && S_ISREG(inode.mode);
    if (layout.size < 0 || layout.size > kMaxFileBytes || layout.lower_limit < 0 ||
        layout.lower_limit > (shows_image ? layout.size : 0)) {
      findings_.Error("INODE_SIZE", Subject(inode.ino),
                      absl::StrCat("it has ", layout.size, " bytes, of which ", layout.lower_limit,
                                   " may be the image's"));
    }
  }

  // Where a directory leads.
  enum class Place {
    kRooted,
    kGone,     // To a directory without a name.
    kCycle,    // Back to itself.
    kUnknown,  // To a directory of the image whose place only the image knows.
  };
  Place PlaceOf(uint64_t directory) const {
    absl::flat_hash_set<uint64_t> passed;
    for (uint64_t at = directory; at != kRootIno;) {
      if (!passed.insert(at).second) return Place::kCycle;
      if (const auto found = parent_of_.find(at); found != parent_of_.end()) {
        at = found->second;
        continue;
      }
      const auto node = at < kFirstNewIno ? lower_.Node(at) : std::nullopt;
      if (!node.has_value()) return Place::kGone;
      if (node->name.empty()) return Place::kUnknown;
      if (hidden_.contains(Name(node->parent, node->name))) return Place::kGone;
      at = node->parent;
    }
    return Place::kRooted;
  }

  // How many names of the image the inode has left: 0 or 1, or -1 where that is not known. What lay
  // in a directory that was removed is not hidden one by one.
  int LowerNames(uint64_t ino) const {
    if (ino >= kFirstNewIno) return 0;
    if (ino == kRootIno) return 1;
    const auto node = lower_.Node(ino);
    if (!node.has_value()) return 0;
    if (node->name.empty()) return -1;
    if (hidden_.contains(Name(node->parent, node->name))) return 0;
    const Place place = PlaceOf(node->parent);
    return place == Place::kRooted ? 1 : place == Place::kUnknown ? -1 : 0;
  }

  void CheckLinks(const InodeState& inode) {
    const auto found = names_of_.find(inode.ino);
    const uint32_t added = found == names_of_.end() ? 0 : found->second;
    const int lower = LowerNames(inode.ino);
    const uint32_t most = added + static_cast<uint32_t>(lower == 0 ? 0 : 1);
    const uint32_t least = added + static_cast<uint32_t>(lower == 1 ? 1 : 0);
    if (inode.nlink < least || inode.nlink > most) {
      findings_.Error("LINK_COUNT", Subject(inode.ino),
                      absl::StrCat("it counts ", inode.nlink, " names, and ", least, " are there"));
    } else if (inode.IsDirectory() && least > 1) {
      findings_.Error("LINK_COUNT", Subject(inode.ino), "it is a directory with two names");
    }
  }

  // Every directory in which something is leads to the root.
  void CheckTree() {
    for (const uint64_t directory : directories_) {
      const Place place = PlaceOf(directory);
      if (place == Place::kCycle) {
        findings_.Error("DIRECTORY_CYCLE", Subject(directory), "the directory lies within itself");
      } else if (place == Place::kGone) {
        findings_.Error("DIRECTORY_GONE", Subject(directory),
                        "names are in the directory, and it was removed");
      }
    }
  }

  const DiffState& state_;
  const LowerTree& lower_;
  const bool image_known_;
  DiffFindings& findings_;
  absl::flat_hash_set<Name> hidden_;
  absl::flat_hash_set<uint64_t> cookies_;
  absl::flat_hash_set<uint64_t> directories_;  // In which the diff added names, or which it named.
  absl::flat_hash_map<uint64_t, uint32_t> names_of_;   // Names that the diff added, by inode.
  absl::flat_hash_map<uint64_t, uint64_t> parent_of_;  // Of directories that the diff named.
};

}  // namespace

void CheckState(const DiffState& state, const LowerTree& lower, bool image_known,
                DiffFindings* findings) {
  StateChecker(state, lower, image_known, findings).Run();
}

}  // namespace pbkfs
