#include "tests/support/memory_tree.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "fs/base/status.h"

namespace pbkfs::testsupport {
namespace {

class MemoryFile : public LowerFile {
 public:
  MemoryFile(std::string content, std::shared_ptr<const bool> unavailable)
      : content_(std::move(content)), unavailable_(std::move(unavailable)) {}
  int64_t Size() const override { return static_cast<int64_t>(content_.size()); }
  absl::Status ReadAt(int64_t offset, absl::Span<uint8_t> out, IoStats*) const override {
    if (*unavailable_) return ErrnoError(EIO, "the catalog is away");
    if (offset < 0 || offset + static_cast<int64_t>(out.size()) > Size()) {
      return absl::OutOfRangeError("read past the end of a lower file");
    }
    std::copy_n(content_.begin() + offset, out.size(), out.begin());
    return absl::OkStatus();
  }

 private:
  const std::string content_;
  const std::shared_ptr<const bool> unavailable_;
};

}  // namespace

MemoryTree::MemoryTree(std::map<std::string, Entry> entries) {
  entries.emplace("", Entry{S_IFDIR | 0700, ""});
  std::vector<std::string> paths;
  for (const auto& [path, entry] : entries) paths.push_back(path);
  for (const std::string& path : paths) {
    for (size_t slash = path.find('/'); slash != std::string::npos;
         slash = path.find('/', slash + 1)) {
      entries.emplace(path.substr(0, slash), Entry{S_IFDIR | 0700, ""});
    }
  }
  std::map<std::string, LowerIno> inos;
  for (const auto& [path, entry] : entries) {
    const LowerIno ino = nodes_.size() + 1;
    inos[path] = ino;
    const size_t slash = path.rfind('/');
    NodeData node;
    node.name = slash == std::string::npos ? path : path.substr(slash + 1);
    node.parent =
        path.empty() ? kRootIno : inos.at(slash == std::string::npos ? "" : path.substr(0, slash));
    node.entry = entry;
    nodes_.push_back(std::move(node));
    if (!path.empty()) nodes_[nodes_.back().parent - 1].children.push_back(ino);
  }
}

std::optional<LowerNode> MemoryTree::Node(LowerIno ino) const {
  if (ino == 0 || ino > nodes_.size()) return std::nullopt;
  const NodeData& data = nodes_[ino - 1];
  LowerNode node;
  node.ino = ino;
  node.parent = data.parent;
  node.name = data.name;
  node.mode = data.entry.mode;
  node.size = static_cast<int64_t>(data.entry.content.size());
  return node;
}

std::optional<LowerNode> MemoryTree::Lookup(LowerIno directory, absl::string_view name) const {
  for (const LowerIno child : Children(directory)) {
    if (nodes_[child - 1].name == name) return Node(child);
  }
  return std::nullopt;
}

absl::Span<const LowerIno> MemoryTree::Children(LowerIno directory) const {
  if (directory == 0 || directory > nodes_.size()) return {};
  return nodes_[directory - 1].children;
}

absl::StatusOr<std::shared_ptr<const LowerFile>> MemoryTree::Open(LowerIno ino) const {
  if (ino == 0 || ino > nodes_.size()) return ErrnoError(ENOENT, "lower file");
  return std::make_shared<const MemoryFile>(nodes_[ino - 1].entry.content, unavailable_);
}

absl::StatusOr<std::string> MemoryTree::ReadLink(LowerIno ino) const {
  return nodes_[ino - 1].entry.content;
}

}  // namespace pbkfs::testsupport
