#include "fs/overlay/side_tree.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/diff/directory_table.h"
#include "fs/diff/limits.h"
#include "fs/overlay/overlay.h"

namespace pbkfs {
namespace {

uint64_t SideIno(LowerIno ino) { return kFirstSideIno + ino; }

// Entries come after "." and "..", in the order of their numbers.
uint64_t CookieOf(LowerIno ino) { return kCookieDotDot + ino; }

}  // namespace

SideTree::SideTree(std::shared_ptr<const LowerTree> tree, uint32_t owner_uid, uint32_t owner_gid)
    : tree_(std::move(tree)), owner_uid_(owner_uid), owner_gid_(owner_gid) {}

bool SideTree::Owns(uint64_t parent, absl::string_view name) const {
  return tree_ != nullptr && (IsSideIno(parent) || (parent == kRootIno && name == kSideName));
}

absl::StatusOr<LowerNode> SideTree::NodeOf(uint64_t ino) const {
  std::optional<LowerNode> node;
  if (tree_ != nullptr && IsSideIno(ino)) node = tree_->Node(ino - kFirstSideIno);
  if (!node.has_value()) return ErrnoError(ENOENT, absl::StrCat("inode ", ino));
  return *node;
}

Attributes SideTree::AttributesOf(const LowerNode& node) const {
  const int64_t time = absl::ToUnixNanos(tree_->Time());
  Attributes attributes;
  attributes.ino = SideIno(node.ino);
  attributes.mode = node.mode;
  attributes.nlink = 1;
  attributes.uid = owner_uid_;
  attributes.gid = owner_gid_;
  attributes.size = node.size;
  attributes.atime = time;
  attributes.mtime = time;
  attributes.ctime = time;
  return attributes;
}

absl::StatusOr<Attributes> SideTree::Lookup(uint64_t parent, absl::string_view name) const {
  if (!IsSideIno(parent)) return GetAttributes(SideIno(kRootIno));
  const std::optional<LowerNode> node = tree_->Lookup(parent - kFirstSideIno, name);
  if (!node.has_value()) {
    return ErrnoError(name.size() > kMaxNameBytes ? ENAMETOOLONG : ENOENT, name);
  }
  return AttributesOf(*node);
}

absl::StatusOr<Attributes> SideTree::GetAttributes(uint64_t ino) const {
  PBKFS_ASSIGN_OR_RETURN(const LowerNode node, NodeOf(ino));
  return AttributesOf(node);
}

absl::StatusOr<std::string> SideTree::ReadLink(uint64_t ino) const {
  PBKFS_RETURN_IF_ERROR(NodeOf(ino).status());
  return tree_->ReadLink(ino - kFirstSideIno);
}

absl::Status SideTree::ReadDirectory(
    uint64_t ino, uint64_t after, const std::function<bool(const DirectoryEntry&)>& visit) const {
  PBKFS_ASSIGN_OR_RETURN(const LowerNode directory, NodeOf(ino));
  if (!S_ISDIR(directory.mode)) return ErrnoError(ENOTDIR, absl::StrCat("inode ", ino));
  if (after < kCookieDot && !visit({".", ino, kCookieDot})) return absl::OkStatus();
  if (after < kCookieDotDot && !visit({"..", ino, kCookieDotDot})) return absl::OkStatus();
  for (const LowerIno child : tree_->Children(directory.ino)) {
    if (CookieOf(child) <= after) continue;
    const std::optional<LowerNode> node = tree_->Node(child);
    if (node.has_value() && !visit({node->name, SideIno(child), CookieOf(child)})) break;
  }
  return absl::OkStatus();
}

absl::Status SideTree::Open(uint64_t ino) {
  PBKFS_ASSIGN_OR_RETURN(const LowerNode node, NodeOf(ino));
  if (S_ISDIR(node.mode)) return absl::OkStatus();
  {
    MutexLock lock(&mutex_);
    const auto known = open_files_.find(ino);
    if (known != open_files_.end()) {
      ++known->second.handles;
      return absl::OkStatus();
    }
  }
  PBKFS_ASSIGN_OR_RETURN(std::shared_ptr<const LowerFile> file, tree_->Open(node.ino));
  MutexLock lock(&mutex_);
  OpenFile& open = open_files_[ino];
  if (open.file == nullptr) open.file = std::move(file);
  ++open.handles;
  return absl::OkStatus();
}

void SideTree::Release(uint64_t ino) {
  MutexLock lock(&mutex_);
  const auto known = open_files_.find(ino);
  if (known != open_files_.end() && --known->second.handles == 0) open_files_.erase(known);
}

absl::StatusOr<size_t> SideTree::Read(uint64_t ino, int64_t offset, absl::Span<uint8_t> out,
                                      IoStats* stats) {
  std::shared_ptr<const LowerFile> file;
  {
    MutexLock lock(&mutex_);
    const auto known = open_files_.find(ino);
    if (known != open_files_.end()) file = known->second.file;
  }
  if (file == nullptr) return ErrnoError(EBADF, absl::StrCat("inode ", ino));
  if (offset < 0) return ErrnoError(EINVAL, "negative offset");
  const int64_t left = std::max<int64_t>(file->Size() - offset, 0);
  out = out.subspan(0, static_cast<size_t>(std::min(left, static_cast<int64_t>(out.size()))));
  if (!out.empty()) PBKFS_RETURN_IF_ERROR(file->ReadAt(offset, out, stats));
  return out.size();
}

}  // namespace pbkfs
