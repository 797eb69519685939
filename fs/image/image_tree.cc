#include "fs/image/image_tree.h"

#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "fs/base/sha256.h"
#include "fs/base/status.h"

namespace pbkfs {
namespace {

constexpr uint32_t kDirectoryMode = S_IFDIR | 0700;
// Above the external directories.
constexpr absl::string_view kExternal = "external";

absl::Status Corrupt(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt, what);
}

absl::Status LinkToProduction(const FileList& list, const FileEntry& entry) {
  return ReasonError(
      absl::StatusCode::kUnimplemented, reason::kUnsupportedFormat,
      absl::StrCat("'", entry.path, "' is listed as a link to '",
                   absl::CHexEscape(list.LinkTarget(entry)),
                   "'; a server on the mount would follow it out of there: take a new FULL backup "
                   "with pg_probackup 2.2 or newer"));
}

absl::string_view ParentPath(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? absl::string_view() : path.substr(0, slash);
}

absl::string_view BaseName(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

bool IsHiddenFile(absl::string_view path) {
  return path == "tablespace_map" || path == "database_map" || path == "standby.signal" ||
         path == "recovery.signal";
}

absl::StatusOr<ImageTree> ImageTree::Build(const FileList& list) {
  ImageTree tree;
  tree.nodes_.reserve(list.entries().size() + 1);
  for (const FileEntry& entry : list.entries()) {
    if (entry.external_dir != 0) break;  // Sorted: PGDATA comes first.
    if (S_ISREG(entry.mode) && IsHiddenFile(entry.path)) continue;
    // The target of a link is where the cluster that was backed up has something: whoever followed
    // it would read and write there.
    if (S_ISLNK(entry.mode) && !entry.IsTablespaceLink()) return LinkToProduction(list, entry);
    tree.Add(entry.path, entry.IsTablespaceLink() ? kDirectoryMode : entry.mode, &entry);
  }
  PBKFS_RETURN_IF_ERROR(tree.Finish());
  return tree;
}

absl::StatusOr<ImageTree> ImageTree::BuildExternal(const FileList& list, size_t count) {
  ImageTree tree;
  const auto keep = [&tree](std::string path) -> absl::string_view {
    return tree.paths_.emplace_back(std::move(path));
  };
  for (size_t i = 1; i <= count; ++i) {
    tree.Add(keep(absl::StrCat(kExternal, "/", i)), kDirectoryMode, nullptr);
  }
  for (const FileEntry& entry : list.entries()) {
    if (entry.external_dir == 0) continue;
    if (entry.IsPageStream()) {
      return Corrupt(absl::StrCat("'", entry.path, "' of external directory ", entry.external_dir,
                                  " is listed as a file of relation pages"));
    }
    tree.Add(keep(absl::StrCat(kExternal, "/", entry.external_dir, "/", entry.path)), entry.mode,
             &entry);
  }
  if (!tree.nodes_.empty()) PBKFS_RETURN_IF_ERROR(tree.Finish());
  return tree;
}

void ImageTree::Add(absl::string_view path, uint32_t mode, const FileEntry* entry) {
  ImageNode& node = nodes_.emplace_back();
  node.path = path;
  node.mode = mode;
  node.entry = entry;
}

absl::Status ImageTree::Finish() {
  absl::flat_hash_set<absl::string_view> directories = {""};
  for (const ImageNode& node : nodes_) {
    if (S_ISDIR(node.mode)) directories.insert(node.path);
  }
  // Those above the nodes that are not listed.
  for (size_t i = 0, listed = nodes_.size(); i < listed; ++i) {
    absl::string_view path = ParentPath(nodes_[i].path);
    for (; directories.insert(path).second; path = ParentPath(path)) {
      Add(path, kDirectoryMode, nullptr);
    }
  }
  Add("", kDirectoryMode, nullptr);
  if (nodes_.size() >= std::numeric_limits<uint32_t>::max()) {
    return absl::ResourceExhaustedError("the image has more than 2^32 files");
  }
  std::sort(nodes_.begin(), nodes_.end(),
            [](const ImageNode& a, const ImageNode& b) { return a.path < b.path; });
  return LinkChildren();
}

absl::Status ImageTree::LinkChildren() {
  uint32_t parent = 0;
  for (size_t i = 1; i < nodes_.size(); ++i) {
    const absl::string_view parent_path = ParentPath(nodes_[i].path);
    if (nodes_[parent].path != parent_path) {
      const LowerIno ino = FindPath(parent_path);
      assert(ino != 0);
      parent = static_cast<uint32_t>(ino - 1);
    }
    if (!S_ISDIR(nodes_[parent].mode)) {
      return Corrupt(absl::StrCat("'", nodes_[i].path, "' lies below what is no directory"));
    }
    nodes_[i].parent = parent;
    ++nodes_[parent].child_count;
  }
  uint32_t next = 0;
  for (ImageNode& node : nodes_) {
    node.first_child = next;
    next += node.child_count;
    node.child_count = 0;
  }
  children_.resize(nodes_.size() - 1);
  for (size_t i = 1; i < nodes_.size(); ++i) {
    ImageNode& directory = nodes_[nodes_[i].parent];
    children_[directory.first_child + directory.child_count++] = i + 1;
  }
  return absl::OkStatus();
}

const ImageNode* ImageTree::Find(LowerIno ino) const {
  return ino >= 1 && ino <= nodes_.size() ? &nodes_[ino - 1] : nullptr;
}

LowerIno ImageTree::FindPath(absl::string_view path) const {
  const auto found = std::lower_bound(
      nodes_.begin(), nodes_.end(), path,
      [](const ImageNode& node, absl::string_view wanted) { return node.path < wanted; });
  if (found == nodes_.end() || found->path != path) return 0;
  return static_cast<LowerIno>(found - nodes_.begin()) + 1;
}

LowerNode ImageTree::Describe(const ImageNode& node) const {
  LowerNode described;
  described.ino = static_cast<LowerIno>(&node - nodes_.data()) + 1;
  described.parent = node.parent + LowerIno{1};
  described.name = BaseName(node.path);
  described.mode = node.mode;
  described.size = node.size;
  return described;
}

std::optional<LowerNode> ImageTree::Lookup(LowerIno directory, absl::string_view name) const {
  const absl::Span<const LowerIno> children = Children(directory);
  // Children ascend by path, and so by name: they share everything before it.
  const auto found = std::lower_bound(children.begin(), children.end(), name,
                                      [this](LowerIno child, absl::string_view wanted) {
                                        return BaseName(nodes_[child - 1].path) < wanted;
                                      });
  if (found == children.end()) return std::nullopt;
  const ImageNode& node = nodes_[*found - 1];
  if (BaseName(node.path) != name) return std::nullopt;
  return Describe(node);
}

absl::Span<const LowerIno> ImageTree::Children(LowerIno directory) const {
  const ImageNode* node = Find(directory);
  if (node == nullptr) return {};
  return absl::MakeConstSpan(children_).subspan(node->first_child, node->child_count);
}

std::string ImageTree::ListHash() const {
  Sha256 hash;
  for (const ImageNode& node : nodes_) {
    const char kind = S_ISDIR(node.mode) ? 'd' : S_ISLNK(node.mode) ? 'l' : 'f';
    hash.Update(node.path);
    hash.Update(absl::string_view("\0", 1));
    hash.Update(absl::StrCat(absl::string_view(&kind, 1), node.size, "\n"));
  }
  return hash.FinishHex();
}

}  // namespace pbkfs
