// Names: look-up, creation, removal, renaming, listing. All changes run under the namespace lock,
// append one record and apply it.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "fs/base/blocking.h"
#include "fs/base/status.h"
#include "fs/overlay/overlay.h"

#ifndef RENAME_NOREPLACE
#include <linux/fs.h>
#endif

namespace pbkfs {
namespace {

absl::Status NameError(int error, absl::string_view name) {
  return ErrnoError(error, absl::StrCat("name '", name, "'"));
}

bool IsTooLong(absl::string_view name) { return name.size() > kMaxNameBytes; }

}  // namespace

absl::StatusOr<DirectoryTable::Entry> Overlay::LookupEntry(uint64_t parent,
                                                           absl::string_view name) const {
  const auto entry = names_.Lookup(*lower_, parent, name);
  if (!entry.has_value()) return NameError(IsTooLong(name) ? ENAMETOOLONG : ENOENT, name);
  return *entry;
}

absl::StatusOr<Attributes> Overlay::Lookup(uint64_t parent, absl::string_view name) {
  if (side_.Owns(parent, name)) return side_.Lookup(parent, name);
  PBKFS_RETURN_IF_ERROR(GetDirectory(parent).status());
  uint64_t ino = 0;
  {
    ReaderLock lock(&namespace_mutex_);
    PBKFS_ASSIGN_OR_RETURN(const DirectoryTable::Entry entry, LookupEntry(parent, name));
    ino = entry.ino;
  }
  return GetAttributes(ino);
}

// Draws tickets for the inodes that have these names now, and for their directories: an fsync that
// arrives later waits until the names are changed.
Overlay::NameTickets Overlay::DrawForNames(std::initializer_list<NamePlace> places) {
  NameTickets drawn;
  std::vector<uint64_t> inos;
  {
    ReaderLock lock(&namespace_mutex_);
    for (const auto& [parent, name] : places) {
      inos.push_back(parent);
      const auto entry = names_.Lookup(*lower_, parent, name);
      if (entry.has_value()) inos.push_back(entry->ino);
    }
  }
  std::sort(inos.begin(), inos.end());
  inos.erase(std::unique(inos.begin(), inos.end()), inos.end());
  std::vector<PendingQueue*> queues;
  for (const uint64_t ino : inos) {
    absl::StatusOr<InodePtr> inode = GetInode(ino);
    if (!inode.ok()) continue;
    queues.push_back(&(*inode)->pending);
    drawn.inodes.push_back(*std::move(inode));
  }
  drawn.tickets = pending_.DrawForNames(queues);
  return drawn;
}

absl::Status Overlay::CheckNewName(uint64_t parent, absl::string_view name) const {
  if (name.empty() || name == "." || name == "..") return NameError(EINVAL, name);
  if (IsTooLong(name)) return NameError(ENAMETOOLONG, name);
  if (names_.Lookup(*lower_, parent, name).has_value()) return NameError(EEXIST, name);
  return absl::OkStatus();
}

absl::StatusOr<Attributes> Overlay::Create(uint64_t parent, absl::string_view name,
                                           const NewNode& node, const RequestId& request) {
  if (side_.Owns(parent, name)) return ErrnoError(EROFS, kSideName);
  PBKFS_RETURN_IF_ERROR(CheckWritable());
  const auto first = answers_.Find({request, 0, parent, std::string(name), 0, ""});
  if (first.has_value()) return GetAttributes(*first);
  if (node.symlink.size() > kMaxSymlinkBytes) return NameError(ENAMETOOLONG, name);
  PBKFS_RETURN_IF_ERROR(CheckSpaceForRecord());
  const NameTickets tickets = DrawForNames({{parent, name}});
  WriterLock lock(&namespace_mutex_);
  PBKFS_ASSIGN_OR_RETURN(const InodePtr directory, GetDirectory(parent));
  if (AttributesOf(*directory).nlink == 0) return NameError(ENOENT, name);
  PBKFS_RETURN_IF_ERROR(CheckNewName(parent, name));
  CreateRecord record;
  record.request = request;
  record.ino = next_ino_;
  record.parent = parent;
  record.name = std::string(name);
  record.mode = node.mode;
  record.uid = node.uid;
  record.gid = node.gid;
  record.rdev = node.rdev;
  record.symlink = node.symlink;
  record.time = NowNanos();
  PBKFS_ASSIGN_OR_RETURN(const uint64_t sequence, diff_->log().Append(record));
  ++next_ino_;
  answers_.Remember(AnswerTo(record));
  names_.Add(parent, name, {record.ino, kCookieAddedBase + sequence});
  TouchChildren(*directory, sequence, record.time);
  const InodePtr inode = inodes_.Insert(
      std::make_shared<Inode>(InodeState::OfNew(record, sequence), /*in_diff=*/true));
  return AttributesOf(*inode);
}

absl::StatusOr<Attributes> Overlay::Link(uint64_t ino, uint64_t parent, absl::string_view name,
                                         const RequestId& request) {
  if (IsSideIno(ino) || side_.Owns(parent, name)) return ErrnoError(EROFS, kSideName);
  PBKFS_RETURN_IF_ERROR(CheckWritable());
  const auto first = answers_.Find({request, 0, parent, std::string(name), 0, ""});
  if (first.has_value()) return GetAttributes(*first);
  PBKFS_RETURN_IF_ERROR(CheckSpaceForRecord());
  PBKFS_ASSIGN_OR_RETURN(const InodePtr inode, GetInode(ino));
  const NameTickets tickets = DrawForNames({{parent, name}});
  const std::vector<Ticket> inode_ticket = pending_.DrawForNames({&inode->pending});
  WriterLock lock(&namespace_mutex_);
  PBKFS_ASSIGN_OR_RETURN(const InodePtr directory, GetDirectory(parent));
  const Attributes attributes = AttributesOf(*inode);
  if (S_ISDIR(attributes.mode)) return NameError(EPERM, name);
  if (attributes.nlink == 0) return NameError(ENOENT, name);
  PBKFS_RETURN_IF_ERROR(CheckNewName(parent, name));
  LinkRecord record;
  record.request = request;
  record.ino = ino;
  record.parent = parent;
  record.name = std::string(name);
  record.time = NowNanos();
  PBKFS_ASSIGN_OR_RETURN(const uint64_t sequence, diff_->log().Append(record));
  answers_.Remember(AnswerTo(record));
  names_.Add(parent, name, {ino, kCookieAddedBase + sequence});
  TouchChildren(*directory, sequence, record.time);
  MutexLock inode_lock(&inode->mutex);
  inode->state.NameAdded(sequence, record.time);
  inode->changed = true;
  return FillAttributes(*inode);
}

absl::Status Overlay::Unlink(uint64_t parent, absl::string_view name, const RequestId& request) {
  return RemoveName(parent, name, /*directory=*/false, request);
}

absl::Status Overlay::RemoveDirectory(uint64_t parent, absl::string_view name,
                                      const RequestId& request) {
  return RemoveName(parent, name, /*directory=*/true, request);
}

absl::Status Overlay::RemoveName(uint64_t parent, absl::string_view name, bool directory,
                                 const RequestId& request) {
  if (side_.Owns(parent, name)) return ErrnoError(EROFS, kSideName);
  PBKFS_RETURN_IF_ERROR(CheckWritable());
  if (answers_.Find({request, 0, parent, std::string(name), 0, ""})) return absl::OkStatus();
  const NameTickets tickets = DrawForNames({{parent, name}});
  WriterLock lock(&namespace_mutex_);
  PBKFS_ASSIGN_OR_RETURN(const InodePtr parent_inode, GetDirectory(parent));
  PBKFS_ASSIGN_OR_RETURN(const DirectoryTable::Entry entry, LookupEntry(parent, name));
  PBKFS_ASSIGN_OR_RETURN(const InodePtr inode, GetInode(entry.ino));
  const bool is_directory = S_ISDIR(AttributesOf(*inode).mode);
  if (directory && !is_directory) return NameError(ENOTDIR, name);
  if (!directory && is_directory) return NameError(EISDIR, name);
  if (directory && !names_.Empty(*lower_, entry.ino)) return NameError(ENOTEMPTY, name);
  UnlinkRecord record;
  record.request = request;
  record.ino = entry.ino;
  record.parent = parent;
  record.name = std::string(name);
  record.time = NowNanos();
  PBKFS_ASSIGN_OR_RETURN(const uint64_t sequence, diff_->log().Append(record));
  answers_.Remember(AnswerTo(record));
  names_.Remove(*lower_, parent, name);
  TouchChildren(*parent_inode, sequence, record.time);
  MutexLock inode_lock(&inode->mutex);
  inode->state.NameRemoved(sequence, record.time);
  inode->changed = true;
  return absl::OkStatus();
}

// A rename over an existing file must not become durable before the bytes that it puts in place.
absl::Status Overlay::ConfirmBeforeReplacing(uint64_t parent, absl::string_view name,
                                             uint64_t new_parent, absl::string_view new_name) {
  uint64_t source = 0;
  {
    ReaderLock lock(&namespace_mutex_);
    PBKFS_ASSIGN_OR_RETURN(const DirectoryTable::Entry entry, LookupEntry(parent, name));
    if (!names_.Lookup(*lower_, new_parent, new_name).has_value()) return absl::OkStatus();
    source = entry.ino;
  }
  PBKFS_ASSIGN_OR_RETURN(const InodePtr inode, GetInode(source));
  {
    MutexLock lock(&inode->mutex);
    if (!inode->state.IsRegular() || !inode->changed) return absl::OkStatus();
  }
  Ticket ticket = pending_.Draw(inode->pending, PendingRole::kBarrier, {});
  ticket.Wait();
  return SyncInode(*inode);
}

absl::Status Overlay::Rename(uint64_t parent, absl::string_view name, uint64_t new_parent,
                             absl::string_view new_name, unsigned flags, const RequestId& request) {
  if (side_.Owns(parent, name) || side_.Owns(new_parent, new_name)) {
    return ErrnoError(EROFS, kSideName);
  }
  PBKFS_RETURN_IF_ERROR(CheckWritable());
  if ((flags & ~static_cast<unsigned>(RENAME_NOREPLACE)) != 0) return NameError(EINVAL, name);
  if (answers_.Find({request, 0, parent, std::string(name), new_parent, std::string(new_name)})) {
    return absl::OkStatus();
  }
  PBKFS_RETURN_IF_ERROR(ConfirmBeforeReplacing(parent, name, new_parent, new_name));
  const NameTickets tickets = DrawForNames({{parent, name}, {new_parent, new_name}});
  WriterLock lock(&namespace_mutex_);
  return RenameLocked(parent, name, new_parent, new_name, flags, request);
}

absl::Status Overlay::CheckReplaceable(Inode& source, Inode& target) {
  const bool source_is_directory = S_ISDIR(AttributesOf(source).mode);
  const bool target_is_directory = S_ISDIR(AttributesOf(target).mode);
  if (source_is_directory && !target_is_directory) return ErrnoError(ENOTDIR, "rename");
  if (!source_is_directory && target_is_directory) return ErrnoError(EISDIR, "rename");
  if (target_is_directory && !names_.Empty(*lower_, target.ino)) {
    return ErrnoError(ENOTEMPTY, "rename");
  }
  return absl::OkStatus();
}

absl::Status Overlay::RenameLocked(uint64_t parent, absl::string_view name, uint64_t new_parent,
                                   absl::string_view new_name, unsigned flags,
                                   const RequestId& request) {
  PBKFS_ASSIGN_OR_RETURN(const InodePtr old_directory, GetDirectory(parent));
  PBKFS_ASSIGN_OR_RETURN(const InodePtr new_directory, GetDirectory(new_parent));
  PBKFS_ASSIGN_OR_RETURN(const DirectoryTable::Entry entry, LookupEntry(parent, name));
  PBKFS_ASSIGN_OR_RETURN(const InodePtr inode, GetInode(entry.ino));
  if (AttributesOf(*new_directory).nlink == 0) return NameError(ENOENT, new_name);
  const auto replaced_entry = names_.Lookup(*lower_, new_parent, new_name);
  InodePtr replaced;
  if (replaced_entry.has_value()) {
    if ((flags & RENAME_NOREPLACE) != 0) return NameError(EEXIST, new_name);
    // Two names of one file: POSIX leaves both.
    if (replaced_entry->ino == entry.ino) return absl::OkStatus();
    PBKFS_ASSIGN_OR_RETURN(replaced, GetInode(replaced_entry->ino));
    PBKFS_RETURN_IF_ERROR(CheckReplaceable(*inode, *replaced));
  } else {
    PBKFS_RETURN_IF_ERROR(CheckNewName(new_parent, new_name));
  }
  RenameRecord record;
  record.request = request;
  record.ino = entry.ino;
  record.parent = parent;
  record.name = std::string(name);
  record.new_parent = new_parent;
  record.new_name = std::string(new_name);
  record.replaced = replaced == nullptr ? 0 : replaced->ino;
  record.time = NowNanos();
  PBKFS_ASSIGN_OR_RETURN(const uint64_t sequence, diff_->log().Append(record));
  answers_.Remember(AnswerTo(record));
  names_.Remove(*lower_, parent, name);
  if (replaced != nullptr) {
    names_.Remove(*lower_, new_parent, new_name);
    MutexLock replaced_lock(&replaced->mutex);
    replaced->state.NameRemoved(sequence, record.time);
    replaced->changed = true;
  }
  names_.Add(new_parent, new_name, {entry.ino, kCookieAddedBase + sequence});
  TouchChildren(*old_directory, sequence, record.time);
  TouchChildren(*new_directory, sequence, record.time);
  MutexLock inode_lock(&inode->mutex);
  inode->state.NameChanged(sequence, record.time);
  inode->changed = true;
  return absl::OkStatus();
}

absl::StatusOr<std::string> Overlay::ReadLink(uint64_t ino) {
  if (IsSideIno(ino)) return side_.ReadLink(ino);
  PBKFS_ASSIGN_OR_RETURN(const InodePtr inode, GetInode(ino));
  {
    MutexLock lock(&inode->mutex);
    if (!S_ISLNK(inode->state.mode)) return ErrnoError(EINVAL, absl::StrCat("inode ", ino));
    if (ino >= kFirstNewIno) return inode->state.symlink;
  }
  return lower_->ReadLink(ino);
}

absl::Status Overlay::ReadDirectory(uint64_t ino, uint64_t after,
                                    const std::function<bool(const DirectoryEntry&)>& visit) {
  if (IsSideIno(ino)) return side_.ReadDirectory(ino, after, visit);
  PBKFS_RETURN_IF_ERROR(GetDirectory(ino).status());
  // The kernel resolves "." and ".." by itself; their inode numbers are for display.
  if (after < kCookieDot && !visit({".", ino, kCookieDot})) return absl::OkStatus();
  if (after < kCookieDotDot && !visit({"..", ino, kCookieDotDot})) return absl::OkStatus();
  ReaderLock lock(&namespace_mutex_);
  names_.List(*lower_, ino, after,
              [&visit](absl::string_view name, const DirectoryTable::Entry& entry) {
                return visit({name, entry.ino, entry.cookie});
              });
  return absl::OkStatus();
}

absl::Status Overlay::FsyncDirectory() {
  const BlockingScope blocking;
  PBKFS_RETURN_IF_ERROR(PassGate());
  const absl::Status status = diff_->log().Sync(diff_->log().last_sequence());
  if (!status.ok()) options_.log_failed(true);
  return status;
}

void Overlay::Forget(uint64_t ino) {
  if (IsSideIno(ino)) return;
  if (ino == kRootIno) return;
  const InodePtr inode = inodes_.Extract(ino, [](Inode& candidate) {
    MutexLock lock(&candidate.mutex);
    const bool orphan = candidate.state.nlink == 0;
    // Unsynced bytes of a file that has a name wait for the background pass; those of an orphan are
    // of no use.
    return candidate.open_handles == 0 &&
           (orphan || (!candidate.changed && !candidate.DataDirty()));
  });
  if (inode != nullptr) return Reap(inode);
  const InodePtr kept = inodes_.Find(ino);
  if (kept == nullptr || AttributesOf(*kept).nlink > 0) return;
  // A release that is still on its way, or the background pass, has it: that pass tries again.
  MutexLock lock(&dirty_mutex_);
  forgotten_.push_back(ino);
}

}  // namespace pbkfs
