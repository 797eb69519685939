#include "fs/image/image_files.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"
#include "fs/image/paged_file.h"
#include "fs/image/plain_file.h"

namespace pbkfs {

absl::Status ImageFiles::Resolve(ImageTree tree) {
  tree_ = std::move(tree);
  std::vector<ImageNode>& nodes = tree_.nodes();
  for (size_t i = 0; i < nodes.size(); ++i) {
    PBKFS_RETURN_IF_ERROR(ResolveNode(i + 1, nodes[i]));
  }
  return absl::OkStatus();
}

absl::Status ImageFiles::ResolveNode(LowerIno ino, ImageNode& node) const {
  const ChainFiles& files = core_->chain().files;
  if (S_ISLNK(node.mode)) {
    node.size = static_cast<int64_t>(files.list().LinkTarget(*node.entry).size());
  }
  // What is empty is empty, whatever lies in the directory.
  if (!S_ISREG(node.mode) || node.entry->size == 0) return absl::OkStatus();
  const FileEntry& entry = *node.entry;
  if (!entry.IsPageStream()) {
    const FileHistory history = files.HistoryOf(entry);
    if (history.parts.empty()) return absl::OkStatus();
    node.source = &history.parts[0]->entry;
    node.source_member = history.parts[0]->member;
    node.size = node.source->size;
    return absl::OkStatus();
  }
  if (entry.n_blocks >= 0) {
    node.size = entry.n_blocks * kPageBytes;
    return absl::OkStatus();
  }
  // Lists before 2.3.0, and rarely newer ones, do not say how long the file is; only the page
  // headers do.
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const PageIndex> index, core_->IndexOf(ino, entry));
  node.size = index->BlockCount() * kPageBytes;
  return absl::OkStatus();
}

std::optional<LowerNode> ImageFiles::Node(LowerIno ino) const {
  const ImageNode* node = tree_.Find(ino);
  if (node == nullptr) return std::nullopt;
  return tree_.Describe(*node);
}

absl::StatusOr<std::shared_ptr<const LowerFile>> ImageFiles::Open(LowerIno ino) const {
  const ImageNode* node = tree_.Find(ino);
  if (node == nullptr) return ErrnoError(ENOENT, absl::StrCat("inode ", ino));
  if (S_ISDIR(node->mode)) return ErrnoError(EISDIR, node->path);
  if (!S_ISREG(node->mode)) return ErrnoError(EINVAL, node->path);
  if (node->size == 0) return EmptyImageFile();
  {
    MutexLock lock(&mutex_);
    const auto known = open_files_.find(ino);
    if (known != open_files_.end()) {
      if (std::shared_ptr<const LowerFile> file = known->second.lock()) return file;
    }
  }
  PBKFS_ASSIGN_OR_RETURN(std::shared_ptr<const LowerFile> file, MakeFile(ino, *node));
  MutexLock lock(&mutex_);
  std::weak_ptr<const LowerFile>& known = open_files_[ino];
  if (std::shared_ptr<const LowerFile> other = known.lock()) return other;
  known = file;
  return file;
}

absl::StatusOr<std::shared_ptr<const LowerFile>> ImageFiles::MakeFile(LowerIno ino,
                                                                      const ImageNode& node) const {
  if (node.source != nullptr) {
    return PlainImageFile::Open(core_, node.source_member, *node.source);
  }
  return std::shared_ptr<const LowerFile>(
      std::make_shared<PagedImageFile>(core_, ino, *node.entry, node.size));
}

absl::StatusOr<std::string> ImageFiles::ReadLink(LowerIno ino) const {
  const ImageNode* node = tree_.Find(ino);
  if (node == nullptr) return ErrnoError(ENOENT, absl::StrCat("inode ", ino));
  if (!S_ISLNK(node->mode)) return ErrnoError(EINVAL, node->path);
  return std::string(core_->chain().files.list().LinkTarget(*node->entry));
}

}  // namespace pbkfs
