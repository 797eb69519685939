#include "fs/image/external_tree.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/catalog/beneath.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

constexpr char kTop[] = "external";
constexpr uint32_t kDirectoryMode = S_IFDIR | 0700;

struct ExternalNode {
  std::string path;  // "" for the root.
  uint32_t mode = kDirectoryMode;
  int64_t size = 0;
  LowerIno parent = kRootIno;
  std::vector<LowerIno> children;
  size_t member = 0;        // Who stores the file; only where size > 0.
  std::string stored_path;  // Relative to that member's directory.
  std::string link;         // The target of a symlink.
};

absl::Status Corrupt(absl::string_view what) {
  return ReasonError(
      absl::StatusCode::kDataLoss, reason::kCatalogCorrupt,
      absl::StrCat("external directories: ", what, "; validate the backup with pg_probackup"));
}

absl::string_view ParentPath(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? absl::string_view() : path.substr(0, slash);
}

absl::string_view BaseName(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

// A whole copy in one member; or no bytes at all.
class ExternalFile final : public LowerFile {
 public:
  ExternalFile(std::shared_ptr<const Image> image, const ExternalNode& node, OpenedFile file)
      : image_(std::move(image)),
        member_(node.member),
        size_(node.size),
        path_(node.path),
        file_(std::move(file)) {}

  int64_t Size() const override { return size_; }
  absl::Status ReadAt(int64_t offset, absl::Span<uint8_t> out, IoStats*) const override {
    if (offset < 0 || offset > size_ || static_cast<int64_t>(out.size()) > size_ - offset) {
      return absl::OutOfRangeError(absl::StrCat("a read of ", out.size(), " bytes at ", offset,
                                                " lies outside of the file's ", size_, " bytes"));
    }
    if (out.empty()) return absl::OkStatus();
    absl::Status status = ReadExactly(file_.fd.get(), offset, out);
    // Afterwards: bytes that changed while they were read are not served.
    if (status.ok()) status = image_->chain().CheckUnchanged(member_);
    return status.ok() ? status : Annotate(status, path_);
  }

 private:
  const std::shared_ptr<const Image> image_;
  const size_t member_;
  const int64_t size_;
  const std::string path_;
  const OpenedFile file_;
};

class ExternalTree final : public LowerTree {
 public:
  explicit ExternalTree(std::shared_ptr<const Image> image) : image_(std::move(image)) {}

  absl::Status Load();

  uint64_t NodeCount() const override { return nodes_.size(); }
  std::optional<LowerNode> Node(LowerIno ino) const override;
  std::optional<LowerNode> Lookup(LowerIno directory, absl::string_view name) const override;
  absl::Span<const LowerIno> Children(LowerIno directory) const override {
    const ExternalNode* node = Find(directory);
    return node == nullptr ? absl::Span<const LowerIno>() : absl::MakeConstSpan(node->children);
  }
  absl::StatusOr<std::shared_ptr<const LowerFile>> Open(LowerIno ino) const override;
  absl::StatusOr<std::string> ReadLink(LowerIno ino) const override;
  absl::Time Time() const override {
    return absl::FromUnixSeconds(image_->chain().tip().control.start_time);
  }
  // No diff is bound to what can't be changed.
  std::string ListHash() const override { return ""; }

 private:
  // By path; complete before the nodes get their numbers.
  using NodeMap = std::map<std::string, ExternalNode>;

  const ExternalNode* Find(LowerIno ino) const {
    return ino >= 1 && ino <= nodes_.size() ? &nodes_[ino - 1] : nullptr;
  }
  static void AddDirectories(absl::string_view path, NodeMap* nodes);
  absl::Status AddEntry(const FileEntry& entry, NodeMap* nodes) const;
  absl::Status ResolveCopy(const FileEntry& entry, ExternalNode* node) const;
  absl::Status Number(NodeMap nodes);

  const std::shared_ptr<const Image> image_;
  std::vector<ExternalNode> nodes_;  // Sorted by path; [i] has the inode number i + 1.
};

void ExternalTree::AddDirectories(absl::string_view path, NodeMap* nodes) {
  while (true) {
    ExternalNode directory;
    directory.path = std::string(path);
    if (!nodes->emplace(directory.path, directory).second || path.empty()) return;
    path = ParentPath(path);
  }
}

absl::Status ExternalTree::Load() {
  const ChainMember& tip = image_->chain().tip();
  NodeMap nodes;
  for (size_t i = 1; i <= tip.control.external_dirs.size(); ++i) {
    AddDirectories(absl::StrCat(kTop, "/", i), &nodes);
  }
  for (const FileEntry& entry : tip.list.entries()) {
    if (entry.external_dir != 0) PBKFS_RETURN_IF_ERROR(AddEntry(entry, &nodes));
  }
  return Number(std::move(nodes));
}

absl::Status ExternalTree::AddEntry(const FileEntry& entry, NodeMap* nodes) const {
  ExternalNode node;
  node.path = absl::StrCat(kTop, "/", entry.external_dir, "/", entry.path);
  node.mode = entry.mode;
  if (S_ISLNK(entry.mode)) {
    node.link = std::string(image_->chain().tip().list.LinkTarget(entry));
    node.size = static_cast<int64_t>(node.link.size());
  } else if (S_ISREG(entry.mode)) {
    if (entry.IsPageStream()) {
      return Corrupt(absl::StrCat("'", entry.path, "' is listed as a file of relation pages"));
    }
    PBKFS_RETURN_IF_ERROR(ResolveCopy(entry, &node));
  }
  AddDirectories(ParentPath(node.path), nodes);
  // A listed directory may have been added for its children before.
  std::string path = node.path;
  (*nodes)[std::move(path)] = std::move(node);
  return absl::OkStatus();
}

// Walks to the newest member that stores the file; every member on the way must list it.
absl::Status ExternalTree::ResolveCopy(const FileEntry& tip_entry, ExternalNode* node) const {
  const Chain& chain = image_->chain();
  const FileEntry* entry = &tip_entry;
  size_t member = chain.members.size() - 1;
  while (entry->size < 0) {
    const std::string& child = chain.members[member]->id;
    if (member > 0) {
      entry = chain.members[--member]->list.Find(tip_entry.path, tip_entry.external_dir);
    } else {
      entry = nullptr;
    }
    if (entry == nullptr || !S_ISREG(entry->mode) || entry->IsPageStream()) {
      return Corrupt(absl::StrCat("backup ", child, " lists '", tip_entry.path,
                                  "' as unchanged, but its parent has no such file"));
    }
  }
  node->size = entry->size;
  node->member = member;
  node->stored_path =
      absl::StrCat("external_directories/externaldir", entry->external_dir, "/", entry->path);
  return absl::OkStatus();
}

absl::Status ExternalTree::Number(NodeMap nodes) {
  std::map<absl::string_view, LowerIno> numbers;
  nodes_.reserve(nodes.size());
  for (auto& [path, node] : nodes) {
    nodes_.push_back(std::move(node));
    numbers[nodes_.back().path] = nodes_.size();
  }
  for (size_t i = 1; i < nodes_.size(); ++i) {
    nodes_[i].parent = numbers.at(ParentPath(nodes_[i].path));
    ExternalNode& parent = nodes_[nodes_[i].parent - 1];
    if (!S_ISDIR(parent.mode)) {
      return Corrupt(absl::StrCat("'", nodes_[i].path, "' lies below what is no directory"));
    }
    parent.children.push_back(i + 1);
  }
  return absl::OkStatus();
}

std::optional<LowerNode> ExternalTree::Node(LowerIno ino) const {
  const ExternalNode* node = Find(ino);
  if (node == nullptr) return std::nullopt;
  LowerNode described;
  described.ino = ino;
  described.parent = node->parent;
  described.name = BaseName(node->path);
  described.mode = node->mode;
  described.size = S_ISDIR(node->mode) ? 0 : node->size;
  return described;
}

std::optional<LowerNode> ExternalTree::Lookup(LowerIno directory, absl::string_view name) const {
  const absl::Span<const LowerIno> children = Children(directory);
  // Children ascend by path, and so by name.
  const auto found = std::lower_bound(children.begin(), children.end(), name,
                                      [this](LowerIno child, absl::string_view wanted) {
                                        return BaseName(nodes_[child - 1].path) < wanted;
                                      });
  if (found == children.end() || BaseName(nodes_[*found - 1].path) != name) return std::nullopt;
  return Node(*found);
}

absl::StatusOr<std::shared_ptr<const LowerFile>> ExternalTree::Open(LowerIno ino) const {
  const ExternalNode* node = Find(ino);
  if (node == nullptr) return ErrnoError(ENOENT, absl::StrCat("inode ", ino));
  if (S_ISDIR(node->mode)) return ErrnoError(EISDIR, node->path);
  if (!S_ISREG(node->mode)) return ErrnoError(EINVAL, node->path);
  OpenedFile file;
  if (node->size > 0) {
    const ChainMember& member = *image_->chain().members[node->member];
    PBKFS_ASSIGN_OR_RETURN(file, OpenRegularBeneath(member.directory_fd.get(), node->stored_path));
    if (file.identity.size != node->size) {
      return ErrnoError(EIO, absl::StrCat(member.path, "/", node->stored_path, " has ",
                                          file.identity.size, " bytes instead of ", node->size));
    }
  }
  return std::shared_ptr<const LowerFile>(
      std::make_shared<ExternalFile>(image_, *node, std::move(file)));
}

absl::StatusOr<std::string> ExternalTree::ReadLink(LowerIno ino) const {
  const ExternalNode* node = Find(ino);
  if (node == nullptr) return ErrnoError(ENOENT, absl::StrCat("inode ", ino));
  if (!S_ISLNK(node->mode)) return ErrnoError(EINVAL, node->path);
  return node->link;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const LowerTree>> MakeExternalTree(
    std::shared_ptr<const Image> image) {
  auto tree = std::make_shared<ExternalTree>(std::move(image));
  PBKFS_RETURN_IF_ERROR(tree->Load());
  if (tree->NodeCount() == 0) return std::shared_ptr<const LowerTree>();
  return std::shared_ptr<const LowerTree>(std::move(tree));
}

}  // namespace pbkfs
