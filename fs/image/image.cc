#include "fs/image/image.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "fs/base/bytes.h"
#include "fs/base/mutex.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"
#include "fs/image/image_core.h"
#include "fs/image/image_tree.h"
#include "fs/image/paged_file.h"
#include "fs/image/plain_file.h"

namespace pbkfs {
namespace {

constexpr char kControlPath[] = "global/pg_control";
// Offsets that all supported majors share, and the end of the last of these fields.
constexpr size_t kSystemIdentifierOffset = 0;
constexpr size_t kControlVersionOffset = 8;
constexpr size_t kCatalogVersionOffset = 12;
constexpr size_t kControlHeadBytes = 16;

absl::Status Corrupt(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt, what);
}

class ChainImage final : public Image {
 public:
  ChainImage(std::shared_ptr<const Chain> chain, std::shared_ptr<SharedCaches> caches)
      : chain_(std::move(chain)), core_(std::make_shared<ImageCore>(chain_, std::move(caches))) {}

  // Builds what the constructor can't report about. Called once, before the image is shared.
  absl::Status Load();

  uint64_t NodeCount() const override { return tree_.nodes().size(); }
  std::optional<LowerNode> Node(LowerIno ino) const override;
  std::optional<LowerNode> Lookup(LowerIno directory, absl::string_view name) const override {
    return tree_.Lookup(directory, name);
  }
  absl::Span<const LowerIno> Children(LowerIno directory) const override {
    return tree_.Children(directory);
  }
  absl::StatusOr<std::shared_ptr<const LowerFile>> Open(LowerIno ino) const override;
  absl::StatusOr<std::string> ReadLink(LowerIno ino) const override;
  absl::Time Time() const override {
    return absl::FromUnixSeconds(chain_->tip().control.start_time);
  }
  std::string ListHash() const override { return tree_.ListHash(); }
  const Chain& chain() const override { return *chain_; }
  const ImageInfo& info() const override { return info_; }
  absl::Status Health() const override { return chain_->CheckAll(); }

 private:
  absl::Status ResolveFile(LowerIno ino, ImageNode& node);
  absl::Status ResolveCopy(ImageNode& node);
  absl::Status LoadInfo();
  absl::Status LoadControl();

  const std::shared_ptr<const Chain> chain_;
  const std::shared_ptr<const ImageCore> core_;
  ImageTree tree_;
  ImageInfo info_;
  // Files that somebody has open. Bounded by the number of files.
  mutable Mutex mutex_;
  mutable absl::flat_hash_map<LowerIno, std::weak_ptr<const LowerFile>> open_files_
      ABSL_GUARDED_BY(mutex_);
};

absl::Status ChainImage::Load() {
  PBKFS_ASSIGN_OR_RETURN(tree_, ImageTree::Build(chain_->tip().list));
  std::vector<ImageNode>& nodes = tree_.nodes();
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (S_ISLNK(nodes[i].mode))
      nodes[i].size = static_cast<int64_t>(chain_->tip().list.LinkTarget(*nodes[i].entry).size());
    if (S_ISREG(nodes[i].mode)) PBKFS_RETURN_IF_ERROR(ResolveFile(i + 1, nodes[i]));
  }
  return LoadInfo();
}

// Finds the length of a file, and who stores it.
absl::Status ChainImage::ResolveFile(LowerIno ino, ImageNode& node) {
  const FileEntry& entry = *node.entry;
  if (entry.size == 0) return absl::OkStatus();  // Empty, whatever lies in the directory.
  if (!entry.IsPageStream()) return ResolveCopy(node);
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

// Walks to the newest member that stores the file; every member on the way must list it.
absl::Status ChainImage::ResolveCopy(ImageNode& node) {
  const FileEntry* entry = node.entry;
  size_t member = chain_->members.size() - 1;
  while (entry->size < 0) {
    const std::string& child_id = chain_->members[member]->id;
    entry = member == 0 ? nullptr : chain_->members[--member]->list.Find(node.path);
    if (entry == nullptr) {
      return Corrupt(absl::StrCat("backup ", child_id, " lists '", node.path,
                                  "' as unchanged since its parent, but the parent does not have "
                                  "it; validate the backup with pg_probackup"));
    }
    if (!S_ISREG(entry->mode) || entry->IsPageStream()) {
      return Corrupt(absl::StrCat("'", node.path, "' is a plain file in backup ", child_id,
                                  " and something else in its parent"));
    }
  }
  node.size = entry->size;
  node.source = entry;
  node.source_member = static_cast<uint32_t>(member);
  return absl::OkStatus();
}

absl::Status ChainImage::LoadInfo() {
  for (const ImageNode& node : tree_.nodes()) {
    if (S_ISREG(node.mode)) {
      ++info_.file_count;
      info_.logical_bytes += node.size;
    }
    absl::string_view name = node.path;
    uint32_t oid = 0;
    if (!S_ISREG(node.mode) && absl::ConsumePrefix(&name, "pg_tblspc/") &&
        name.find_first_not_of("0123456789") == absl::string_view::npos &&
        absl::SimpleAtoi(name, &oid)) {
      info_.tablespaces.push_back(oid);
    }
  }
  info_.has_standby_signal = chain_->tip().list.Find("standby.signal") != nullptr;
  info_.has_recovery_signal = chain_->tip().list.Find("recovery.signal") != nullptr;
  return LoadControl();
}

absl::Status ChainImage::LoadControl() {
  const ImageNode* node = tree_.Find(tree_.FindPath(kControlPath));
  if (node == nullptr || node->source == nullptr ||
      node->size < static_cast<int64_t>(kControlHeadBytes)) {
    return Corrupt(absl::StrCat("backup ", chain_->tip().id, " has no ", kControlPath,
                                "; it is no backup of a PostgreSQL cluster"));
  }
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const LowerFile> file,
                         Open(tree_.Describe(*node).ino));
  uint8_t head[kControlHeadBytes];
  PBKFS_RETURN_IF_ERROR(file->ReadAt(0, absl::MakeSpan(head), nullptr));
  info_.system_identifier = LoadLittleEndian<uint64_t>(head + kSystemIdentifierOffset);
  info_.pg_control_version = LoadLittleEndian<uint32_t>(head + kControlVersionOffset);
  info_.catalog_version = LoadLittleEndian<uint32_t>(head + kCatalogVersionOffset);
  return absl::OkStatus();
}

std::optional<LowerNode> ChainImage::Node(LowerIno ino) const {
  const ImageNode* node = tree_.Find(ino);
  if (node == nullptr) return std::nullopt;
  return tree_.Describe(*node);
}

absl::StatusOr<std::shared_ptr<const LowerFile>> ChainImage::Open(LowerIno ino) const {
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
  std::shared_ptr<const LowerFile> file;
  if (node->source == nullptr) {
    file = std::make_shared<PagedImageFile>(core_, ino, *node->entry, node->size);
  } else {
    PBKFS_ASSIGN_OR_RETURN(file,
                           PlainImageFile::Open(core_, ino, node->source_member, *node->source));
  }
  MutexLock lock(&mutex_);
  std::weak_ptr<const LowerFile>& known = open_files_[ino];
  if (std::shared_ptr<const LowerFile> other = known.lock()) return other;
  known = file;
  return file;
}

absl::StatusOr<std::string> ChainImage::ReadLink(LowerIno ino) const {
  const ImageNode* node = tree_.Find(ino);
  if (node == nullptr) return ErrnoError(ENOENT, absl::StrCat("inode ", ino));
  if (!S_ISLNK(node->mode)) return ErrnoError(EINVAL, node->path);
  return std::string(chain_->tip().list.LinkTarget(*node->entry));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Image>> Image::Create(std::shared_ptr<const Chain> chain,
                                                           std::shared_ptr<ImageCaches> caches) {
  // ImageCaches::Create makes nothing else.
  auto image = std::make_shared<ChainImage>(
      std::move(chain), std::static_pointer_cast<SharedCaches>(std::move(caches)));
  PBKFS_RETURN_IF_ERROR(image->Load());
  return std::shared_ptr<const Image>(std::move(image));
}

}  // namespace pbkfs
