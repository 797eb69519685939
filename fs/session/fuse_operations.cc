#include "fs/session/fuse_operations.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "fs/base/status.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

// We are the only writer, so that the kernel may believe names and attributes for long.
constexpr double kCacheSeconds = 3600;
constexpr uint32_t kMaxWriteBytes = 1 << 20;
struct CurrentRequest {
  int thread = 0;
  uint64_t unique = 0;
  uint32_t opcode = 0;
  uint64_t node = 0;
};
thread_local CurrentRequest current;

SessionContext& ContextOf(fuse_req_t request) {
  return *static_cast<SessionContext*>(fuse_req_userdata(request));
}

RequestId CurrentRequestId(const Overlay& overlay) {
  return {overlay.session_nonce(), current.unique & ~kResendBit, current.opcode};
}

// Counts one request from its arrival to its answer.
class RequestScope {
 public:
  RequestScope(fuse_req_t request, FuseOp op)
      : request_(request), stats_(*ContextOf(request).stats), op_(op) {
    stats_.Begin(current.thread, op, current.node, MonotonicNanos());
  }
  ~RequestScope() { stats_.End(current.thread, op_, error_, MonotonicNanos()); }
  RequestScope(const RequestScope&) = delete;
  RequestScope& operator=(const RequestScope&) = delete;

  Overlay& overlay() { return *ContextOf(request_).overlay; }
  HandleTable& handles() { return *ContextOf(request_).handles; }
  fuse_req_t request() { return request_; }
  void ReplyError(const absl::Status& status) {
    error_ = ErrnoOf(status);
    fuse_reply_err(request_, error_);
  }

 private:
  fuse_req_t const request_;
  RequestStats& stats_;
  const FuseOp op_;
  int error_ = 0;
};

struct timespec ToTimespec(int64_t nanos) {
  return absl::ToTimespec(absl::FromUnixNanos(nanos));
}

struct stat ToStat(const Attributes& attributes) {
  struct stat result;
  memset(&result, 0, sizeof(result));
  result.st_ino = attributes.ino;
  result.st_mode = attributes.mode;
  // 1 for a directory means that its sub-directories are not counted.
  result.st_nlink = attributes.nlink;
  result.st_uid = attributes.uid;
  result.st_gid = attributes.gid;
  result.st_rdev = attributes.rdev;
  result.st_size = attributes.size;
  result.st_blksize = kBlockSize;
  result.st_blocks = (attributes.size + 511) / 512;
  result.st_atim = ToTimespec(attributes.atime);
  result.st_mtim = ToTimespec(attributes.mtime);
  result.st_ctim = ToTimespec(attributes.ctime);
  return result;
}

// The side tree is not ours alone to change: archives of WAL grow.
double CacheSeconds(uint64_t ino) { return IsSideIno(ino) ? 0 : kCacheSeconds; }

fuse_entry_param ToEntry(const Attributes& attributes) {
  fuse_entry_param entry;
  memset(&entry, 0, sizeof(entry));
  entry.ino = attributes.ino;
  entry.attr = ToStat(attributes);
  entry.attr_timeout = CacheSeconds(attributes.ino);
  entry.entry_timeout = CacheSeconds(attributes.ino);
  return entry;
}

// Makes a handle of `ino`. It is named by the request that made it, which a resent request repeats.
absl::Status MakeHandle(RequestScope& scope, uint64_t ino, fuse_file_info* info) {
  info->fh = current.unique & ~kResendBit;
  switch (scope.handles().Add(info->fh, ino)) {
    case HandleTable::Added::kKnown:
      return absl::OkStatus();
    case HandleTable::Added::kFull:
      return ErrnoError(ENFILE, "the table of open files is full");
    case HandleTable::Added::kNew:
      break;
  }
  const absl::Status opened = scope.overlay().Open(ino);
  if (!opened.ok()) scope.handles().Remove(info->fh);
  return opened;
}

void DropHandle(RequestScope& scope, uint64_t handle) {
  const std::optional<uint64_t> ino = scope.handles().Remove(handle);
  if (ino.has_value()) scope.overlay().Release(*ino);
}

void SetOpenFlags(fuse_file_info* info) {
  info->keep_cache = 1;
  info->noflush = 1;
}

void ReplyEntry(RequestScope& scope, const absl::StatusOr<Attributes>& attributes) {
  if (!attributes.ok()) return scope.ReplyError(attributes.status());
  const fuse_entry_param entry = ToEntry(*attributes);
  fuse_reply_entry(scope.request(), &entry);
}

void ReplyAttributes(RequestScope& scope, const absl::StatusOr<Attributes>& attributes) {
  if (!attributes.ok()) return scope.ReplyError(attributes.status());
  const struct stat result = ToStat(*attributes);
  fuse_reply_attr(scope.request(), &result, CacheSeconds(attributes->ino));
}

NewNode NodeOfCaller(fuse_req_t request, uint32_t mode) {
  const fuse_ctx* context = fuse_req_ctx(request);
  NewNode node;
  node.mode = mode;
  node.uid = context->uid;
  node.gid = context->gid;
  return node;
}

// A directory with the set-group-id bit hands its group on, and the bit to directories (as ext4
// does).
void InheritGroup(Overlay& overlay, uint64_t parent, NewNode* node) {
  const auto directory = overlay.GetAttributes(parent);
  if (!directory.ok() || (directory->mode & S_ISGID) == 0) return;
  node->gid = directory->gid;
  if (S_ISDIR(node->mode)) node->mode |= S_ISGID;
}

// ---- session ----

void Init(void* user_data, fuse_conn_info* connection) {
  (void)user_data;
  // An explicit list: libfuse turns more on by default, and each of those breaks something
  // (ARCHITECTURE.md, "Session").
  connection->want = connection->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS |
                                            FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
  connection->max_write = kMaxWriteBytes;
  connection->max_background = 64;
  connection->congestion_threshold = 48;
  connection->time_gran = 1;
}

// ---- names ----

void Lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  RequestScope scope(request, FuseOp::kLookup);
  ReplyEntry(scope, scope.overlay().Lookup(parent, name));
}

void Forget(fuse_req_t request, fuse_ino_t ino, uint64_t) {
  RequestScope scope(request, FuseOp::kForget);
  scope.overlay().Forget(ino);
  fuse_reply_none(request);
}

void ForgetMulti(fuse_req_t request, size_t count, fuse_forget_data* forgets) {
  RequestScope scope(request, FuseOp::kForget);
  for (size_t i = 0; i < count; ++i) scope.overlay().Forget(forgets[i].ino);
  fuse_reply_none(request);
}

absl::StatusOr<Attributes> MakeNode(RequestScope& scope, fuse_ino_t parent, const char* name,
                                    NewNode node) {
  InheritGroup(scope.overlay(), parent, &node);
  return scope.overlay().Create(parent, name, node, CurrentRequestId(scope.overlay()));
}

void Mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
  RequestScope scope(request, FuseOp::kMknod);
  NewNode node = NodeOfCaller(request, mode);
  node.rdev = rdev;
  ReplyEntry(scope, MakeNode(scope, parent, name, std::move(node)));
}

void Mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode) {
  RequestScope scope(request, FuseOp::kMkdir);
  ReplyEntry(scope, MakeNode(scope, parent, name, NodeOfCaller(request, S_IFDIR | mode)));
}

void Symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) {
  RequestScope scope(request, FuseOp::kSymlink);
  NewNode node = NodeOfCaller(request, S_IFLNK | 0777);
  node.symlink = target;
  ReplyEntry(scope, MakeNode(scope, parent, name, std::move(node)));
}

void Unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
  RequestScope scope(request, FuseOp::kUnlink);
  scope.ReplyError(scope.overlay().Unlink(parent, name, CurrentRequestId(scope.overlay())));
}

void Rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) {
  RequestScope scope(request, FuseOp::kRmdir);
  scope.ReplyError(
      scope.overlay().RemoveDirectory(parent, name, CurrentRequestId(scope.overlay())));
}

void Rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
            const char* new_name, unsigned flags) {
  RequestScope scope(request, FuseOp::kRename);
  scope.ReplyError(scope.overlay().Rename(parent, name, new_parent, new_name, flags,
                                          CurrentRequestId(scope.overlay())));
}

void Link(fuse_req_t request, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name) {
  RequestScope scope(request, FuseOp::kLink);
  ReplyEntry(scope,
             scope.overlay().Link(ino, new_parent, new_name, CurrentRequestId(scope.overlay())));
}

void Readlink(fuse_req_t request, fuse_ino_t ino) {
  RequestScope scope(request, FuseOp::kReadlink);
  const auto target = scope.overlay().ReadLink(ino);
  if (!target.ok()) return scope.ReplyError(target.status());
  fuse_reply_readlink(request, target->c_str());
}

// ---- attributes ----

void Getattr(fuse_req_t request, fuse_ino_t ino, fuse_file_info*) {
  RequestScope scope(request, FuseOp::kGetattr);
  ReplyAttributes(scope, scope.overlay().GetAttributes(ino));
}

void Setattr(fuse_req_t request, fuse_ino_t ino, struct stat* attributes, int set,
             fuse_file_info*) {
  RequestScope scope(request, FuseOp::kSetattr);
  AttributeChange change;
  if ((set & FUSE_SET_ATTR_MODE) != 0) change.mode = attributes->st_mode;
  if ((set & FUSE_SET_ATTR_UID) != 0) change.uid = attributes->st_uid;
  if ((set & FUSE_SET_ATTR_GID) != 0) change.gid = attributes->st_gid;
  if ((set & FUSE_SET_ATTR_SIZE) != 0) change.size = attributes->st_size;
  const auto nanos = [](const struct timespec& time) {
    return absl::ToUnixNanos(absl::TimeFromTimespec(time));
  };
  if ((set & FUSE_SET_ATTR_ATIME) != 0) change.atime = nanos(attributes->st_atim);
  if ((set & FUSE_SET_ATTR_MTIME) != 0) change.mtime = nanos(attributes->st_mtim);
  if ((set & FUSE_SET_ATTR_ATIME_NOW) != 0) change.atime = NowNanos();
  if ((set & FUSE_SET_ATTR_MTIME_NOW) != 0) change.mtime = NowNanos();
  ReplyAttributes(scope, scope.overlay().SetAttributes(ino, change));
}

void Statfs(fuse_req_t request, fuse_ino_t) {
  RequestScope scope(request, FuseOp::kStatfs);
  auto result = scope.overlay().FileSystem();
  if (!result.ok()) return scope.ReplyError(result.status());
  result->f_namemax = kMaxNameBytes;
  fuse_reply_statfs(request, &*result);
}

// ---- files ----

void Open(fuse_req_t request, fuse_ino_t ino, fuse_file_info* info) {
  RequestScope scope(request, FuseOp::kOpen);
  const absl::Status status = MakeHandle(scope, ino, info);
  if (!status.ok()) return scope.ReplyError(status);
  SetOpenFlags(info);
  scope.handles().MarkReplied(info->fh);
  // An answer that the kernel no longer wants leaves no handle behind.
  if (fuse_reply_open(request, info) == -ENOENT) DropHandle(scope, info->fh);
}

void Create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode,
            fuse_file_info* info) {
  RequestScope scope(request, FuseOp::kCreate);
  const auto attributes = MakeNode(scope, parent, name, NodeOfCaller(request, S_IFREG | mode));
  if (!attributes.ok()) return scope.ReplyError(attributes.status());
  const absl::Status opened = MakeHandle(scope, attributes->ino, info);
  if (!opened.ok()) return scope.ReplyError(opened);
  SetOpenFlags(info);
  scope.handles().MarkReplied(info->fh);
  const fuse_entry_param entry = ToEntry(*attributes);
  if (fuse_reply_create(request, &entry, info) == -ENOENT) DropHandle(scope, info->fh);
}

void Release(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
  RequestScope scope(request, FuseOp::kRelease);
  DropHandle(scope, info->fh);
  fuse_reply_err(request, 0);
}

void Read(fuse_req_t request, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info*) {
  RequestScope scope(request, FuseOp::kRead);
  thread_local std::vector<uint8_t> buffer;
  if (buffer.size() < size) buffer.resize(size);
  const auto count = scope.overlay().Read(ino, offset, absl::MakeSpan(buffer.data(), size));
  if (!count.ok()) return scope.ReplyError(count.status());
  fuse_reply_buf(request, reinterpret_cast<const char*>(buffer.data()), *count);
}

void Write(fuse_req_t request, fuse_ino_t ino, const char* bytes, size_t size, off_t offset,
           fuse_file_info*) {
  RequestScope scope(request, FuseOp::kWrite);
  const absl::Status status = scope.overlay().Write(
      ino, offset, absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(bytes), size));
  if (!status.ok()) return scope.ReplyError(status);
  fuse_reply_write(request, size);
}

void Fsync(fuse_req_t request, fuse_ino_t ino, int, fuse_file_info*) {
  RequestScope scope(request, FuseOp::kFsync);
  scope.ReplyError(scope.overlay().Fsync(ino));
}

void Fallocate(fuse_req_t request, fuse_ino_t ino, int mode, off_t offset, off_t length,
               fuse_file_info*) {
  RequestScope scope(request, FuseOp::kFallocate);
  scope.ReplyError(scope.overlay().Allocate(ino, mode, offset, length));
}

void Lseek(fuse_req_t request, fuse_ino_t ino, off_t offset, int whence, fuse_file_info*) {
  RequestScope scope(request, FuseOp::kLseek);
  const auto found = scope.overlay().Seek(ino, offset, whence);
  if (!found.ok()) return scope.ReplyError(found.status());
  fuse_reply_lseek(request, *found);
}

// ---- directories ----

void Opendir(fuse_req_t request, fuse_ino_t ino, fuse_file_info* info) {
  RequestScope scope(request, FuseOp::kOpendir);
  const absl::Status status = MakeHandle(scope, ino, info);
  if (!status.ok()) return scope.ReplyError(status);
  scope.handles().MarkReplied(info->fh);
  if (fuse_reply_open(request, info) == -ENOENT) DropHandle(scope, info->fh);
}

void Releasedir(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
  RequestScope scope(request, FuseOp::kReleasedir);
  DropHandle(scope, info->fh);
  fuse_reply_err(request, 0);
}

void Fsyncdir(fuse_req_t request, fuse_ino_t, int, fuse_file_info*) {
  RequestScope scope(request, FuseOp::kFsyncdir);
  scope.ReplyError(scope.overlay().FsyncDirectory());
}

struct ListedEntry {
  std::string name;
  uint64_t ino;
  uint64_t cookie;
};

// As many entries as can fit into `size` bytes of reply, whatever their names.
absl::StatusOr<std::vector<ListedEntry>> ListEntries(Overlay& overlay, fuse_ino_t ino, size_t size,
                                                     off_t offset) {
  constexpr size_t kSmallestEntryBytes = 32;
  std::vector<ListedEntry> entries;
  const size_t limit = size / kSmallestEntryBytes + 1;
  const absl::Status status =
      overlay.ReadDirectory(ino, static_cast<uint64_t>(offset), [&](const DirectoryEntry& entry) {
        entries.push_back({std::string(entry.name), entry.ino, entry.cookie});
        return entries.size() < limit;
      });
  if (!status.ok()) return status;
  return entries;
}

void Readdir(fuse_req_t request, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info*) {
  RequestScope scope(request, FuseOp::kReaddir);
  const auto entries = ListEntries(scope.overlay(), ino, size, offset);
  if (!entries.ok()) return scope.ReplyError(entries.status());
  std::vector<char> buffer(size);
  size_t used = 0;
  for (const ListedEntry& entry : *entries) {
    struct stat attributes;
    memset(&attributes, 0, sizeof(attributes));
    attributes.st_ino = entry.ino;
    attributes.st_mode = scope.overlay().ModeOf(entry.ino);
    const size_t needed =
        fuse_add_direntry(request, buffer.data() + used, size - used, entry.name.c_str(),
                          &attributes, static_cast<off_t>(entry.cookie));
    if (needed > size - used) break;
    used += needed;
  }
  fuse_reply_buf(request, buffer.data(), used);
}

void Readdirplus(fuse_req_t request, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info*) {
  RequestScope scope(request, FuseOp::kReaddirplus);
  const auto entries = ListEntries(scope.overlay(), ino, size, offset);
  if (!entries.ok()) return scope.ReplyError(entries.status());
  std::vector<char> buffer(size);
  size_t used = 0;
  for (const ListedEntry& entry : *entries) {
    const auto attributes = scope.overlay().GetAttributes(entry.ino);
    if (!attributes.ok()) continue;  // Removed since it was listed.
    fuse_entry_param param = ToEntry(*attributes);
    // No look-up is counted for these two.
    if (entry.name == "." || entry.name == "..") param.ino = 0;
    const size_t needed =
        fuse_add_direntry_plus(request, buffer.data() + used, size - used, entry.name.c_str(),
                               &param, static_cast<off_t>(entry.cookie));
    if (needed > size - used) break;
    used += needed;
  }
  fuse_reply_buf(request, buffer.data(), used);
}

fuse_lowlevel_ops MakeOperations() {
  fuse_lowlevel_ops operations;
  memset(&operations, 0, sizeof(operations));
  operations.init = Init;
  operations.lookup = Lookup;
  operations.forget = Forget;
  operations.forget_multi = ForgetMulti;
  operations.getattr = Getattr;
  operations.setattr = Setattr;
  operations.readlink = Readlink;
  operations.mknod = Mknod;
  operations.mkdir = Mkdir;
  operations.unlink = Unlink;
  operations.rmdir = Rmdir;
  operations.symlink = Symlink;
  operations.rename = Rename;
  operations.link = Link;
  operations.open = Open;
  operations.create = Create;
  operations.read = Read;
  operations.write = Write;
  operations.release = Release;
  operations.fsync = Fsync;
  operations.opendir = Opendir;
  operations.readdir = Readdir;
  operations.readdirplus = Readdirplus;
  operations.releasedir = Releasedir;
  operations.fsyncdir = Fsyncdir;
  operations.statfs = Statfs;
  operations.fallocate = Fallocate;
  operations.lseek = Lseek;
  return operations;
}

}  // namespace

const fuse_lowlevel_ops& FuseOperations() {
  static const fuse_lowlevel_ops operations = MakeOperations();
  return operations;
}

void SetCurrentRequest(int thread, uint64_t unique, uint32_t opcode, uint64_t node) {
  current = {thread, unique, opcode, node};
}

}  // namespace pbkfs
