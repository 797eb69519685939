// Access by path for the control plane: small files, before and beside the mount.
#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fs/base/status.h"
#include "fs/overlay/overlay.h"

namespace pbkfs {
namespace {

// Not beside what it is to be: a server would take one that a crash leaves in pg_tblspc for a
// tablespace.
constexpr char kUnfinishedLinkName[] = "pbkfs_link.new";

}  // namespace

// The inode at `path`, or 0 where only the last component is missing; its directory and name in any
// case.
absl::StatusOr<uint64_t> Overlay::Resolve(absl::string_view path, uint64_t* parent,
                                          std::string* name) {
  uint64_t ino = kRootIno;
  for (const absl::string_view component : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (ino == 0) return ErrnoError(ENOENT, path);
    *parent = ino;
    *name = std::string(component);
    PBKFS_RETURN_IF_ERROR(GetDirectory(ino).status());
    ReaderLock lock(&namespace_mutex_);
    const auto entry = names_.Lookup(*lower_, ino, component);
    ino = entry.has_value() ? entry->ino : 0;
  }
  return ino;
}

absl::StatusOr<std::string> Overlay::ReadFile(absl::string_view path, int64_t limit) {
  uint64_t parent = 0;
  std::string name;
  PBKFS_ASSIGN_OR_RETURN(const uint64_t ino, Resolve(path, &parent, &name));
  if (ino == 0) return ErrnoError(ENOENT, path);
  PBKFS_RETURN_IF_ERROR(GetRegular(ino).status());
  PBKFS_ASSIGN_OR_RETURN(const Attributes attributes, GetAttributes(ino));
  if (attributes.size > limit) {
    return absl::OutOfRangeError(
        absl::StrCat(path, " has ", attributes.size, " bytes; the limit is ", limit));
  }
  std::string content(static_cast<size_t>(attributes.size), '\0');
  PBKFS_RETURN_IF_ERROR(Open(ino));
  // The daemon's own reads would blur what applications read.
  ReadSources sources;
  const auto count = ReadUncounted(
      ino, 0, absl::MakeSpan(reinterpret_cast<uint8_t*>(content.data()), content.size()), &sources);
  Release(ino);
  PBKFS_RETURN_IF_ERROR(count.status());
  content.resize(*count);
  return content;
}

NewNode Overlay::OwnNode(uint32_t mode) const {
  NewNode node;
  node.mode = mode;
  node.uid = diff_->owner_uid();
  node.gid = diff_->owner_gid();
  return node;
}

// A file under a temporary name takes the place of the old one, so that there is no moment at which
// a crash leaves neither.
absl::Status Overlay::WriteFile(absl::string_view path, absl::string_view content, uint32_t mode) {
  uint64_t parent = kRootIno;
  std::string name;
  PBKFS_ASSIGN_OR_RETURN(const uint64_t old, Resolve(path, &parent, &name));
  NewNode node = OwnNode(S_IFREG | mode);
  if (old != 0) {
    PBKFS_RETURN_IF_ERROR(GetRegular(old).status());
    PBKFS_ASSIGN_OR_RETURN(const Attributes attributes, GetAttributes(old));
    node.mode = attributes.mode;
    node.uid = attributes.uid;
    node.gid = attributes.gid;
  }
  const std::string temporary = absl::StrCat(name, ".pbkfs-new");
  const absl::Status removed = Unlink(parent, temporary, RequestId{});
  if (!removed.ok() && ErrnoOf(removed) != ENOENT) return removed;
  PBKFS_ASSIGN_OR_RETURN(const Attributes created, Create(parent, temporary, node, RequestId{}));
  PBKFS_RETURN_IF_ERROR(
      Write(created.ino, 0, {reinterpret_cast<const uint8_t*>(content.data()), content.size()}));
  PBKFS_RETURN_IF_ERROR(Fsync(created.ino));
  PBKFS_RETURN_IF_ERROR(Rename(parent, temporary, parent, name, 0, RequestId{}));
  if (old != 0) Forget(old);
  return FsyncDirectory();
}

absl::Status Overlay::MoveBehindLink(absl::string_view path, absl::string_view new_path,
                                     const std::string& target) {
  uint64_t parent = kRootIno;
  uint64_t new_parent = kRootIno;
  std::string name;
  std::string new_name;
  PBKFS_RETURN_IF_ERROR(MakeOwnDirectory(new_path.substr(0, new_path.rfind('/'))));
  PBKFS_ASSIGN_OR_RETURN(const uint64_t ino, Resolve(path, &parent, &name));
  PBKFS_ASSIGN_OR_RETURN(const uint64_t occupied, Resolve(new_path, &new_parent, &new_name));
  if (occupied != 0) return ErrnoError(EEXIST, new_path);
  PBKFS_RETURN_IF_ERROR(GetDirectory(ino).status());
  PBKFS_RETURN_IF_ERROR(Rename(parent, name, new_parent, new_name, 0, RequestId{}));
  return PutLink(path, target);
}

absl::Status Overlay::MakeOwnDirectory(absl::string_view path) {
  uint64_t parent = kRootIno;
  std::string name;
  PBKFS_ASSIGN_OR_RETURN(const uint64_t ino, Resolve(path, &parent, &name));
  if (ino != 0) return GetDirectory(ino).status();
  return Create(parent, name, OwnNode(S_IFDIR | 0700), RequestId{}).status();
}

absl::StatusOr<std::vector<Overlay::NamedLink>> Overlay::LinksIn(absl::string_view path) {
  uint64_t parent = kRootIno;
  std::string name;
  PBKFS_ASSIGN_OR_RETURN(const uint64_t directory, Resolve(path, &parent, &name));
  if (directory == 0) return ErrnoError(ENOENT, path);
  std::vector<std::pair<uint64_t, std::string>> found;
  PBKFS_RETURN_IF_ERROR(ReadDirectory(directory, 0, [&found](const DirectoryEntry& entry) {
    if (entry.name != "." && entry.name != "..") found.emplace_back(entry.ino, entry.name);
    return true;
  }));
  std::vector<NamedLink> links;
  for (auto& [ino, link_name] : found) {
    PBKFS_ASSIGN_OR_RETURN(const Attributes attributes, GetAttributes(ino));
    if (!S_ISLNK(attributes.mode)) continue;
    PBKFS_ASSIGN_OR_RETURN(std::string text, ReadLink(ino));
    links.push_back({std::move(link_name), std::move(text)});
  }
  return links;
}

absl::Status Overlay::PutLink(absl::string_view path, const std::string& target) {
  uint64_t parent = kRootIno;
  std::string name;
  PBKFS_ASSIGN_OR_RETURN(const uint64_t old, Resolve(path, &parent, &name));
  PBKFS_RETURN_IF_ERROR(RemoveUnfinishedLink());
  NewNode node = OwnNode(S_IFLNK | 0777);
  node.symlink = target;
  PBKFS_RETURN_IF_ERROR(Create(kRootIno, kUnfinishedLinkName, node, RequestId{}).status());
  PBKFS_RETURN_IF_ERROR(Rename(kRootIno, kUnfinishedLinkName, parent, name, 0, RequestId{}));
  if (old != 0) Forget(old);
  return FsyncDirectory();
}

absl::Status Overlay::RemoveUnfinishedLink() {
  uint64_t parent = kRootIno;
  std::string name;
  PBKFS_ASSIGN_OR_RETURN(const uint64_t ino, Resolve(kUnfinishedLinkName, &parent, &name));
  if (ino == 0) return absl::OkStatus();
  PBKFS_ASSIGN_OR_RETURN(const Attributes attributes, GetAttributes(ino));
  if (!S_ISLNK(attributes.mode)) return absl::OkStatus();  // Not ours.
  return Unlink(parent, name, RequestId{});
}

}  // namespace pbkfs
