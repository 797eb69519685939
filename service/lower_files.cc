#include "service/lower_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "fs/base/status.h"
#include "service/limits.h"

namespace pbkfs {
namespace {

std::optional<LowerNode> FindNode(const LowerTree& tree, absl::string_view path) {
  std::optional<LowerNode> node = tree.Node(kRootIno);
  for (const absl::string_view name : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (!node.has_value() || !S_ISDIR(node->mode)) return std::nullopt;
    node = tree.Lookup(node->ino, name);
  }
  return node;
}

}  // namespace

absl::StatusOr<std::string> ReadLowerFile(const LowerTree& tree, absl::string_view path,
                                          int64_t limit) {
  const std::optional<LowerNode> node = FindNode(tree, path);
  if (!node.has_value() || !S_ISREG(node->mode)) {
    return absl::NotFoundError(absl::StrCat(path, " is not in the backup"));
  }
  if (node->size > limit) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, " has ", node->size, " bytes; at most ", limit, " are read"));
  }
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const LowerFile> file, tree.Open(node->ino));
  std::string content(static_cast<size_t>(std::min(file->Size(), limit)), '\0');
  if (content.empty()) return content;
  PBKFS_RETURN_IF_ERROR(file->ReadAt(
      0, absl::MakeSpan(reinterpret_cast<uint8_t*>(content.data()), content.size()), nullptr));
  return content;
}

ConfigSource ConfigOf(const LowerTree& tree) {
  ConfigSource source;
  source.read = [&tree](const std::string& path) {
    return ReadLowerFile(tree, path, kMaxConfigFileBytes);
  };
  source.list = [&tree](const std::string& path) {
    std::vector<std::string> names;
    const std::optional<LowerNode> directory = FindNode(tree, path);
    if (!directory.has_value() || !S_ISDIR(directory->mode)) return names;
    for (const LowerIno ino : tree.Children(directory->ino)) {
      if (const std::optional<LowerNode> child = tree.Node(ino)) names.emplace_back(child->name);
    }
    std::sort(names.begin(), names.end());
    return names;
  };
  return source;
}

}  // namespace pbkfs
