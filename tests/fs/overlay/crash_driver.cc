#include "tests/fs/overlay/crash_driver.h"

#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs::testsupport {
namespace {

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}
std::string NameOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool IsWithin(const std::string& path, const std::string& directory) {
  return path.rfind(directory + "/", 0) == 0;
}

}  // namespace

void CrashDriver::Begin() {
  const absl::Status mounted = fs_.Mount();
  ASSERT_TRUE(mounted.ok()) << mounted;
  const auto tree = ReadTree(overlay());
  // What reads copy into the diff is a part of the sequence.
  overlay().DrainIdleWork();
  ASSERT_TRUE(tree.ok()) << tree.status();
  model_.Adopt(*tree);
}

uint64_t CrashDriver::ParentIno(const std::string& path) { return fs_.Ino(ParentOf(path)); }

const CrashModel::Name* CrashDriver::Find(const std::string& path) const {
  const auto found = model_.names().find(path);
  return found == model_.names().end() ? nullptr : &found->second;
}

CrashDriver::Handle CrashDriver::ByName(const std::string& path) {
  return {fs_.Ino(path), Find(path)->object};
}

// An operation may only fail because the process is dying, or because a sync was told to fail.
bool CrashDriver::Done(const absl::Status& status) {
  Note(status.ok() ? "  ok" : "  " + status.ToString());
  EXPECT_TRUE(status.ok() || dead() || (!failing_.empty() && ErrnoOf(status) == EIO)) << status;
  if (status.ok()) model_.Replied();
  return status.ok();
}

bool CrashDriver::NameChange(CrashModel::Names names, const std::vector<int>& changed,
                             const std::function<absl::Status()>& call) {
  model_.NamesAre(std::move(names), changed);
  const bool ok = Done(call());
  if (!ok && !dead()) model_.NamesDidNotChange();
  return ok;
}

bool CrashDriver::BytesChange(const Handle& file, std::string content,
                              const std::function<absl::Status()>& call) {
  model_.ContentIs(file.object, std::move(content));
  return Done(call());
}

// What the kernel does once nothing refers to the inode.
void CrashDriver::ForgetIfGone(const Handle& file) {
  const bool named =
      std::any_of(model_.names().begin(), model_.names().end(),
                  [&](const auto& entry) { return entry.second.object == file.object; });
  const bool open = std::any_of(handles_.begin(), handles_.end(),
                                [&](const Handle& handle) { return handle.ino == file.ino; });
  if (!named && !open) overlay().Forget(file.ino);
}

// ---- names ----

bool CrashDriver::Create(const std::string& path, uint32_t mode, const std::string& symlink) {
  if (Find(path) != nullptr) return false;
  Note(absl::StrCat("create ", path, S_ISDIR(mode) ? "/" : S_ISLNK(mode) ? "@" : ""));
  NewNode node;
  node.mode = mode;
  node.symlink = symlink;
  const int object = model_.NewObject();
  CrashModel::Names next = model_.names();
  next[path] = {object, mode, 0, symlink};
  if (S_ISREG(mode)) model_.ContentIs(object, "");
  return NameChange(std::move(next), {object}, [&] {
    return overlay().Create(ParentIno(path), NameOf(path), node, RequestId{}).status();
  });
}

bool CrashDriver::Unlink(const std::string& path) {
  Note("unlink " + path);
  const Handle file = ByName(path);
  CrashModel::Names next = model_.names();
  next.erase(path);
  const bool ok = NameChange(std::move(next), {file.object}, [&] {
    return overlay().Unlink(ParentIno(path), NameOf(path), RequestId{});
  });
  if (ok) ForgetIfGone(file);
  return ok;
}

bool CrashDriver::RemoveDirectory(const std::string& path) {
  if (!model_.IsEmptyDirectory(path)) return false;
  Note("rmdir " + path);
  const Handle directory = ByName(path);
  CrashModel::Names next = model_.names();
  next.erase(path);
  const bool ok = NameChange(std::move(next), {directory.object}, [&] {
    return overlay().RemoveDirectory(ParentIno(path), NameOf(path), RequestId{});
  });
  if (ok) ForgetIfGone(directory);
  return ok;
}

bool CrashDriver::Link(const std::string& path, const std::string& target) {
  if (Find(target) != nullptr) return false;
  Note("link " + path + " to " + target);
  const Handle file = ByName(path);
  CrashModel::Names next = model_.names();
  next[target] = next[path];
  return NameChange(std::move(next), {file.object}, [&] {
    return overlay().Link(file.ino, ParentIno(target), NameOf(target), RequestId{}).status();
  });
}

bool CrashDriver::Rename(const std::string& path, const std::string& target) {
  const CrashModel::Name source = *Find(path);
  const CrashModel::Name* found = Find(target);
  if (target == path || IsWithin(target, path)) return false;
  const bool replaces = found != nullptr;
  if (replaces && (found->object == source.object || !model_.IsEmptyDirectory(target) ||
                   found->IsDirectory() != source.IsDirectory())) {
    return false;
  }
  Note("rename " + path + " to " + target);
  std::vector<int> changed = {source.object};
  Handle replaced{0, -1};
  if (replaces) {
    replaced = ByName(target);
    changed.push_back(replaced.object);
  }
  CrashModel::Names next;
  for (const auto& [old, entry] : model_.names()) {
    if (old == target) continue;
    const bool moves = old == path || IsWithin(old, path);
    next[moves ? target + old.substr(path.size()) : old] = entry;
  }
  const uint64_t parent = ParentIno(path);
  const uint64_t new_parent = ParentIno(target);
  const bool ok = NameChange(std::move(next), changed, [&] {
    return overlay().Rename(parent, NameOf(path), new_parent, NameOf(target), 0, RequestId{});
  });
  if (!ok || !replaces) return ok;
  // The name must not show less than what it was given.
  if (source.IsFile()) model_.ContentConfirmed(source.object);
  ForgetIfGone(replaced);
  return true;
}

bool CrashDriver::SetAttributes(const std::string& path, const AttributeChange& change) {
  Note("set attributes of " + path);
  const Handle file = ByName(path);
  CrashModel::Names next = model_.names();
  for (auto& [other, entry] : next) {
    if (entry.object != file.object) continue;
    if (change.mode.has_value()) entry.mode = (entry.mode & S_IFMT) | *change.mode;
    if (change.uid.has_value()) entry.uid = *change.uid;
  }
  return NameChange(std::move(next), {file.object},
                    [&] { return overlay().SetAttributes(file.ino, change).status(); });
}

bool CrashDriver::FsyncDirectory() {
  Note("fsync directory");
  if (!Done(overlay().FsyncDirectory())) return false;
  model_.NamesDurable();
  return true;
}

bool CrashDriver::Open(const std::string& path) {
  Note("open " + path);
  const Handle file = ByName(path);
  if (!Done(overlay().Open(file.ino))) return false;
  handles_.push_back(file);
  return true;
}

void CrashDriver::Close(size_t handle) {
  Note("close");
  const Handle file = handles_[handle];
  handles_.erase(handles_.begin() + static_cast<int64_t>(handle));
  overlay().Release(file.ino);
  ForgetIfGone(file);
}

// ---- bytes ----

bool CrashDriver::Write(const Handle& file, int64_t offset, const std::string& bytes) {
  Note(absl::StrCat("write ", file.object, " at ", offset, " of ", bytes.size()));
  std::string content = model_.content(file.object);
  const auto end = static_cast<size_t>(offset) + bytes.size();
  if (content.size() < end) content.resize(end, '\0');
  content.replace(static_cast<size_t>(offset), bytes.size(), bytes);
  return BytesChange(file, std::move(content),
                     [&] { return overlay().Write(file.ino, offset, Bytes(bytes)); });
}

bool CrashDriver::Truncate(const Handle& file, int64_t size) {
  Note(absl::StrCat("truncate ", file.object, " to ", size));
  std::string content = model_.content(file.object);
  content.resize(static_cast<size_t>(size), '\0');
  AttributeChange change;
  change.size = size;
  return BytesChange(file, std::move(content),
                     [&] { return overlay().SetAttributes(file.ino, change).status(); });
}

bool CrashDriver::Allocate(const Handle& file, int mode, int64_t offset, int64_t length) {
  Note(absl::StrCat("fallocate ", file.object, " mode ", mode, " at ", offset, " of ", length));
  std::string content = model_.content(file.object);
  const auto end = static_cast<size_t>(offset + length);
  if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) {
    for (auto i = static_cast<size_t>(offset); i < std::min(content.size(), end); ++i) {
      content[i] = '\0';
    }
  }
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && content.size() < end) content.resize(end, '\0');
  return BytesChange(file, std::move(content),
                     [&] { return overlay().Allocate(file.ino, mode, offset, length); });
}

bool CrashDriver::Fsync(const Handle& file) {
  Note(absl::StrCat("fsync ", file.object));
  if (!Done(overlay().Fsync(file.ino))) return false;
  model_.Fsynced(file.object);
  return true;
}

void CrashDriver::Compare(const Handle& file) {
  Note(absl::StrCat("read ", file.object));
  const auto content = ReadInode(overlay(), file.ino);
  overlay().DrainIdleWork();
  EXPECT_TRUE(content.ok() || dead()) << content.status();
  if (!content.ok()) return;
  EXPECT_TRUE(*content == model_.content(file.object)) << "file " << file.object;
}

// ---- the mount ----

void CrashDriver::Maintain() {
  Note("maintain");
  overlay().Maintain();
}

bool CrashDriver::Checkpoint() {
  Note("checkpoint");
  if (!Done(overlay().Checkpoint())) return false;
  model_.NamesDurable();
  return true;
}

void CrashDriver::CleanRemount() {
  Note("clean unmount");
  handles_.clear();
  closed_ = true;
  if (!Done(overlay().Close())) return;
  model_.AllDurable();
  fs_.Drop();
  const absl::Status mounted = fs_.Mount();
  EXPECT_TRUE(mounted.ok() || dead()) << mounted;
  closed_ = false;
}

void CrashDriver::FailNextSync(const Handle& file) {
  Note(absl::StrCat("the next sync of ", file.object, " fails"));
  failing_.insert(file.object);
  io().FailNextSync(DataFileName(file.ino));
}

void CrashDriver::Die(bool machine) {
  handles_.clear();
  fs_.Drop();
  Note(machine ? "-- the machine stops" : "-- the process dies");
  cache_lost_ = cache_lost_ || machine;
  io().FailNextSync("");
  if (machine) {
    io().Crash();
  } else {
    io().Revive();
  }
}

void CrashDriver::CheckRecovered() {
  closed_ = false;
  // A write-out that failed makes the page cache worth no more than after the machine stopped.
  if (!cache_lost_ && failing_.empty()) model_.OnlyTheLastStates();
  cache_lost_ = false;
  failing_.clear();
  const absl::StatusOr<CrashTree> tree = ReadTree(overlay());
  ASSERT_TRUE(tree.ok()) << tree.status();
  std::string summary;
  for (const auto& [path, node] : *tree) {
    absl::StrAppend(&summary, " ", path, "(", node.content.size(), ")");
  }
  Note("-- recovered:" + summary);
  std::string contradiction;
  ASSERT_TRUE(model_.Explains(*tree, &contradiction))
      << "nothing that was allowed explains what is there:" << summary << contradiction;
  model_.Adopt(*tree);  // What was recovered is durable.
}

}  // namespace pbkfs::testsupport
