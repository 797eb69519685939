#include "fs/image/image_tree.h"

#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <limits>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "fs/base/sha256.h"
#include "fs/base/status.h"

namespace pbkfs {
namespace {

constexpr uint32_t kDirectoryMode = S_IFDIR | 0700;

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
  std::vector<ImageNode>& nodes = tree.nodes_;
  nodes.push_back({});
  nodes[0].mode = kDirectoryMode;
  absl::flat_hash_set<absl::string_view> unlisted;
  absl::string_view known_parent;  // Neighbours mostly share their directory.
  for (const FileEntry& entry : list.entries()) {
    if (entry.external_dir != 0) break;  // Sorted: PGDATA comes first.
    if (S_ISREG(entry.mode) && IsHiddenFile(entry.path)) continue;
    ImageNode node;
    node.path = entry.path;
    node.entry = &entry;
    // The target is the directory of the cluster that was backed up: never to be followed.
    node.mode = entry.IsTablespaceLink() ? kDirectoryMode : entry.mode;
    nodes.push_back(node);
    for (absl::string_view parent = ParentPath(entry.path);
         !parent.empty() && parent != known_parent; parent = ParentPath(parent)) {
      if (list.Find(parent) != nullptr || !unlisted.insert(parent).second) break;
      ImageNode directory;
      directory.path = parent;
      directory.mode = kDirectoryMode;
      nodes.push_back(directory);
    }
    known_parent = ParentPath(entry.path);
  }
  if (nodes.size() >= std::numeric_limits<uint32_t>::max()) {
    return absl::ResourceExhaustedError("the image has more than 2^32 files");
  }
  std::sort(nodes.begin(), nodes.end(),
            [](const ImageNode& a, const ImageNode& b) { return a.path < b.path; });
  PBKFS_RETURN_IF_ERROR(tree.LinkChildren());
  return tree;
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
      return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt,
                         absl::StrCat("'", nodes_[i].path, "' lies below what is no directory"));
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
