#include "fs/image/image.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "fs/base/bytes.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"
#include "fs/image/image_core.h"
#include "fs/image/image_files.h"
#include "fs/image/image_tree.h"

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

// What both trees of an image have in common: they are read from one chain.
template <typename Base>
class ChainTree : public Base {
 public:
  explicit ChainTree(std::shared_ptr<const ImageCore> core)
      : core_(std::move(core)), files_(core_) {}

  uint64_t NodeCount() const override { return tree().nodes().size(); }
  std::optional<LowerNode> Node(LowerIno ino) const override { return files_.Node(ino); }
  std::optional<LowerNode> Lookup(LowerIno directory, absl::string_view name) const override {
    return tree().Lookup(directory, name);
  }
  absl::Span<const LowerIno> Children(LowerIno directory) const override {
    return tree().Children(directory);
  }
  absl::StatusOr<std::shared_ptr<const LowerFile>> Open(LowerIno ino) const override {
    return files_.Open(ino);
  }
  absl::StatusOr<std::string> ReadLink(LowerIno ino) const override { return files_.ReadLink(ino); }
  absl::Time Time() const override {
    return absl::FromUnixSeconds(core_->chain().tip().control.start_time);
  }
  std::string ListHash() const override { return tree().ListHash(); }
  // Called once, before the tree is shared.
  absl::Status Resolve(ImageTree tree) { return files_.Resolve(std::move(tree)); }

 protected:
  const ImageTree& tree() const { return files_.tree(); }

  const std::shared_ptr<const ImageCore> core_;

 private:
  ImageFiles files_;
};

class ChainImage final : public ChainTree<Image> {
 public:
  using ChainTree::ChainTree;

  // Builds what the constructor can't report about. Called once, before the image is shared.
  absl::Status Load();

  const Chain& chain() const override { return core_->chain(); }
  const ImageInfo& info() const override { return info_; }
  absl::Status Health() const override { return chain().CheckAll(); }
  absl::StatusOr<std::shared_ptr<const LowerTree>> MakeExternalTree() const override;

 private:
  absl::Status LoadInfo();
  absl::Status LoadControl();

  ImageInfo info_;
};

absl::Status ChainImage::Load() {
  PBKFS_ASSIGN_OR_RETURN(ImageTree tree, ImageTree::Build(chain().files.list()));
  PBKFS_RETURN_IF_ERROR(Resolve(std::move(tree)));
  return LoadInfo();
}

absl::StatusOr<std::shared_ptr<const LowerTree>> ChainImage::MakeExternalTree() const {
  PBKFS_ASSIGN_OR_RETURN(
      ImageTree tree,
      ImageTree::BuildExternal(chain().files.list(), chain().tip().control.external_dirs.size()));
  if (tree.nodes().empty()) return std::shared_ptr<const LowerTree>();
  auto external = std::make_shared<ChainTree<LowerTree>>(core_);
  PBKFS_RETURN_IF_ERROR(external->Resolve(std::move(tree)));
  return std::shared_ptr<const LowerTree>(std::move(external));
}

absl::Status ChainImage::LoadInfo() {
  for (const ImageNode& node : tree().nodes()) {
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
  info_.has_standby_signal = chain().files.list().Find("standby.signal") != nullptr;
  info_.has_recovery_signal = chain().files.list().Find("recovery.signal") != nullptr;
  return LoadControl();
}

absl::Status ChainImage::LoadControl() {
  const ImageNode* node = tree().Find(tree().FindPath(kControlPath));
  if (node == nullptr || node->source == nullptr ||
      node->size < static_cast<int64_t>(kControlHeadBytes)) {
    return Corrupt(absl::StrCat("backup ", chain().tip().id, " has no ", kControlPath,
                                "; it is no backup of a PostgreSQL cluster"));
  }
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const LowerFile> file,
                         Open(tree().Describe(*node).ino));
  uint8_t head[kControlHeadBytes];
  PBKFS_RETURN_IF_ERROR(file->ReadAt(0, absl::MakeSpan(head), nullptr));
  info_.system_identifier = LoadLittleEndian<uint64_t>(head + kSystemIdentifierOffset);
  info_.pg_control_version = LoadLittleEndian<uint32_t>(head + kControlVersionOffset);
  info_.catalog_version = LoadLittleEndian<uint32_t>(head + kCatalogVersionOffset);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Image>> Image::Create(std::shared_ptr<const Chain> chain,
                                                           std::shared_ptr<ImageCaches> caches) {
  // ImageCaches::Create makes nothing else.
  auto image = std::make_shared<ChainImage>(std::make_shared<ImageCore>(
      std::move(chain), std::static_pointer_cast<SharedCaches>(std::move(caches))));
  PBKFS_RETURN_IF_ERROR(image->Load());
  return std::shared_ptr<const Image>(std::move(image));
}

}  // namespace pbkfs
