#include "fs/diff/presumed_tree.h"

#include <sys/stat.h>

#include <variant>

namespace pbkfs {
namespace {

absl::Status NoImage() { return absl::FailedPreconditionError("the image is not known"); }

}  // namespace

PresumedTree::PresumedTree(const std::vector<DecodedRecord>& records, int64_t file_bytes)
    : file_bytes_(file_bytes) {
  LearnDirectory(kRootIno);
  for (const DecodedRecord& record : records) {
    std::visit([this](const auto& value) { Learn(value); }, record.record);
  }
  added_.clear();
}

void PresumedTree::LearnDirectory(LowerIno ino) { modes_.emplace(ino, S_IFDIR | 0700); }

void PresumedTree::Put(LowerIno parent, const std::string& name) {
  LearnDirectory(parent);
  added_.emplace(parent, name);
}

// A name that the diff did not add before can only be one of the image.
void PresumedTree::Take(LowerIno parent, const std::string& name, LowerIno ino) {
  LearnDirectory(parent);
  if (added_.erase(Name(parent, name)) > 0) return;
  if (ino >= kFirstNewIno || parent >= kFirstNewIno) return;
  if (!names_.try_emplace(Name(parent, name), ino).second) return;
  if (!name_of_.try_emplace(ino, parent, name).second) contradictions_.push_back(ino);
}

void PresumedTree::Learn(const CreateRecord& record) { Put(record.parent, record.name); }
void PresumedTree::Learn(const LinkRecord& record) { Put(record.parent, record.name); }
void PresumedTree::Learn(const DirentRecord& record) { Put(record.parent, record.name); }
void PresumedTree::Learn(const UnlinkRecord& record) {
  Take(record.parent, record.name, record.ino);
}
void PresumedTree::Learn(const RenameRecord& record) {
  Take(record.parent, record.name, record.ino);
  if (record.replaced != 0) Take(record.new_parent, record.new_name, record.replaced);
  Put(record.new_parent, record.new_name);
}
void PresumedTree::Learn(const InodeRecord& record) {
  modes_.insert_or_assign(record.ino, record.mode);
}
void PresumedTree::Learn(const WhiteoutRecord& record) { LearnDirectory(record.parent); }

std::optional<LowerNode> PresumedTree::Node(LowerIno ino) const {
  if (ino == 0 || ino >= kFirstNewIno) return std::nullopt;
  LowerNode node;
  node.ino = ino;
  const auto mode = modes_.find(ino);
  node.mode = mode == modes_.end() ? S_IFREG : mode->second;
  node.size = S_ISREG(node.mode) ? file_bytes_ : 0;
  if (ino == kRootIno) node.parent = kRootIno;
  if (const auto name = name_of_.find(ino); name != name_of_.end()) {
    node.parent = name->second.first;
    node.name = name->second.second;
  }
  return node;
}

std::optional<LowerNode> PresumedTree::Lookup(LowerIno directory, absl::string_view name) const {
  const auto found = names_.find(Name(directory, name));
  return found == names_.end() ? std::nullopt : Node(found->second);
}

absl::StatusOr<std::shared_ptr<const LowerFile>> PresumedTree::Open(LowerIno) const {
  return NoImage();
}
absl::StatusOr<std::string> PresumedTree::ReadLink(LowerIno) const { return NoImage(); }

}  // namespace pbkfs
