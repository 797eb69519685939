// Random operations, each sequence cut at a random point by the death of the process or of the
// machine, also during recovery and more than once; crash_model.h says what may be there then.
// PBKFS_CRASH_SEEDS=N runs N sequences, PBKFS_CRASH_SEED=S only sequence S: a failure prints the
// latter.
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "tests/fs/overlay/crash_model.h"
#include "tests/fs/overlay/overlay_fixture.h"
#include "tests/fs/overlay/sim_fixture.h"

namespace pbkfs {
namespace {

using testsupport::Bytes;
using testsupport::CrashModel;
using testsupport::CrashTree;
using testsupport::MemoryTree;
using testsupport::Page;
using testsupport::ReadInode;
using testsupport::ReadTree;
using testsupport::Setting;
using testsupport::SimFixture;

constexpr int64_t kB = kBlockSize;

std::shared_ptr<const MemoryTree> Lower() {
  static const auto tree =
      std::make_shared<const MemoryTree>(std::map<std::string, MemoryTree::Entry>{
          {"a", {S_IFREG | 0600, Page(1, 2 * kB)}},
          {"b", {S_IFREG | 0600, Page(2, kB + 700)}},
          {"c", {S_IFREG | 0600, ""}},
          {"d/a", {S_IFREG | 0600, Page(3, kB)}},
          {"e", {S_IFLNK | 0777, "d/a"}},
      });
  return tree;
}

class CrashRun {
 public:
  explicit CrashRun(uint64_t seed) : random_(seed), fs_(Lower(), seed * 7919 + 1) {}

  void Run() {
    const absl::Status mounted = fs_.Mount();
    ASSERT_TRUE(mounted.ok()) << mounted;
    const auto tree = ReadTree(fs_.overlay());
    ASSERT_TRUE(tree.ok()) << tree.status();
    model_.Adopt(*tree);
    const int rounds = 1 + Random(3);
    for (int round = 0; round < rounds; ++round) {
      fs_.io().DieAfter(1 + random_() % 120);
      while (!dead() && Random(60) != 0) {
        Step();
        if (testing::Test::HasFailure()) return;
      }
      Recover(/*machine=*/Random(2) == 0);
      if (testing::Test::HasFailure()) return;
    }
  }
  const std::string& log() const { return log_; }

 private:
  // A file that is open, by a name or without one.
  struct Handle {
    uint64_t ino;
    int object;
  };

  Overlay& overlay() { return fs_.overlay(); }
  bool dead() { return fs_.io().dead(); }
  void Note(const std::string& text) { log_ += text + "\n"; }
  int Random(int below) { return static_cast<int>(random_() % static_cast<uint64_t>(below)); }
  template <typename T>
  const T& OneOf(const std::vector<T>& values) {
    return values[random_() % values.size()];
  }
  std::string RandomPath() {
    const std::string directory = OneOf(model_.Directories());
    const std::string name(1, "abcdef"[Random(6)]);
    return directory.empty() ? name : directory + "/" + name;
  }
  int64_t RandomOffset() {
    const int64_t block = Random(4) * kB;
    return Random(2) == 0 ? block : block + Random(kB);
  }

  static std::string ParentOf(const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash);
  }
  static std::string NameOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }
  uint64_t ParentIno(const std::string& path) { return fs_.Ino(ParentOf(path)); }

  const CrashModel::Name* Find(const std::string& path) const {
    const auto found = model_.names().find(path);
    return found == model_.names().end() ? nullptr : &found->second;
  }
  bool HasName(int object) const {
    return std::any_of(model_.names().begin(), model_.names().end(),
                       [&](const auto& entry) { return entry.second.object == object; });
  }
  bool IsOpen(uint64_t ino) const {
    return std::any_of(handles_.begin(), handles_.end(),
                       [&](const Handle& handle) { return handle.ino == ino; });
  }
  // What the kernel does once nothing refers to the inode.
  void ForgetIfGone(uint64_t ino, int object) {
    if (ino != 0 && !HasName(object) && !IsOpen(ino)) overlay().Forget(ino);
  }

  // An operation may only fail because the process is dying.
  bool Done(const absl::Status& status) {
    Note(status.ok() ? "  ok" : "  " + status.ToString());
    EXPECT_TRUE(status.ok() || dead()) << status;
    if (status.ok()) model_.Replied();
    return status.ok();
  }

  void Step() {
    if (Random(20) == 0) return StepMaintenance();
    if (!handles_.empty() && Random(6) == 0) return StepHandle();
    const std::string path = RandomPath();
    const CrashModel::Name* name = Find(path);
    if (name == nullptr) return StepCreate(path);
    if (Random(12) == 0) return StepAttributes(path, *name);
    if (Random(8) == 0) return StepRename(path, *name);
    if (name->IsDirectory()) return StepDirectory(path, *name);
    if (!name->IsFile()) return StepUnlink(path, *name);
    switch (Random(10)) {
      case 0:
        return StepLink(path, *name);
      case 1:
        return Random(2) == 0 ? StepUnlink(path, *name) : StepOpen(path, *name);
      default:
        return StepFile(fs_.Ino(path), name->object, path);
    }
  }

  void StepMaintenance() {
    switch (Random(6)) {
      case 0:
        break;
      case 1:
      case 2:
        Note("checkpoint");
        if (Done(overlay().Checkpoint())) model_.NamesDurable();
        return;
      default:
        Note("maintain");
        return overlay().Maintain();
    }
    Note("clean unmount");
    handles_.clear();
    if (!Done(overlay().Close())) return;
    model_.AllDurable();
    fs_.Drop();
    const absl::Status mounted = fs_.Mount();
    EXPECT_TRUE(mounted.ok() || dead()) << mounted;
  }

  // ---- names ----
  void StepCreate(const std::string& path) {
    const int kind = Random(6);
    NewNode node;
    node.mode = kind == 0 ? S_IFDIR | 0700 : kind == 1 ? S_IFLNK | 0777 : S_IFREG | 0600;
    if (kind == 1) node.symlink = path + "-target";
    Note("create " + path + (kind == 0 ? "/" : kind == 1 ? "@" : ""));
    const int object = model_.NewObject();
    CrashModel::Names next = model_.names();
    next[path] = {object, node.mode, 0, node.symlink};
    if (kind > 1) model_.ContentIs(object, "");
    model_.NamesAre(std::move(next), {object});
    Done(overlay().Create(ParentIno(path), NameOf(path), node, RequestId{}).status());
  }
  void StepDirectory(const std::string& path, const CrashModel::Name& name) {
    if (Random(3) != 0 || !model_.IsEmptyDirectory(path)) return StepFsyncDirectory();
    Note("rmdir " + path);
    const uint64_t ino = fs_.Ino(path);
    const int object = name.object;
    CrashModel::Names next = model_.names();
    next.erase(path);
    model_.NamesAre(std::move(next), {object});
    if (Done(overlay().RemoveDirectory(ParentIno(path), NameOf(path), RequestId{}))) {
      overlay().Forget(ino);
    }
  }
  void StepUnlink(const std::string& path, const CrashModel::Name& name) {
    Note("unlink " + path);
    const uint64_t ino = fs_.Ino(path);
    const int object = name.object;
    CrashModel::Names next = model_.names();
    next.erase(path);
    model_.NamesAre(std::move(next), {object});
    if (Done(overlay().Unlink(ParentIno(path), NameOf(path), RequestId{}))) {
      ForgetIfGone(ino, object);
    }
  }
  void StepLink(const std::string& path, const CrashModel::Name& name) {
    const std::string target = RandomPath();
    if (Find(target) != nullptr) return;
    Note("link " + path + " to " + target);
    const int object = name.object;
    CrashModel::Names next = model_.names();
    next[target] = name;
    model_.NamesAre(std::move(next), {object});
    Done(overlay().Link(fs_.Ino(path), ParentIno(target), NameOf(target), RequestId{}).status());
  }
  void StepRename(const std::string& path, const CrashModel::Name& name) {
    const std::string target = RandomPath();
    const CrashModel::Name* replaced = Find(target);
    const bool into_itself = target == path || target.rfind(path + "/", 0) == 0;
    if (into_itself || (replaced != nullptr && replaced->object == name.object)) return;
    if (replaced != nullptr &&
        (replaced->IsDirectory() != name.IsDirectory() || !model_.IsEmptyDirectory(target))) {
      return;
    }
    Note("rename " + path + " to " + target);
    const uint64_t replaced_ino = replaced == nullptr ? 0 : fs_.Ino(target);
    const int replaced_object = replaced == nullptr ? -1 : replaced->object;
    const CrashModel::Name moved = name;
    CrashModel::Names next;
    for (const auto& [old, entry] : model_.names()) {
      if (old == target) continue;
      const bool moves = old == path || old.rfind(path + "/", 0) == 0;
      next[moves ? target + old.substr(path.size()) : old] = entry;
    }
    std::vector<int> changed = {moved.object};
    if (replaced != nullptr) changed.push_back(replaced_object);
    model_.NamesAre(std::move(next), changed);
    const uint64_t parent = ParentIno(path);
    const uint64_t new_parent = ParentIno(target);
    if (!Done(overlay().Rename(parent, NameOf(path), new_parent, NameOf(target), 0, RequestId{}))) {
      return;
    }
    // The name must not show less than what it was given.
    if (replaced_ino != 0 && moved.IsFile()) model_.ContentConfirmed(moved.object);
    ForgetIfGone(replaced_ino, replaced_object);
  }
  void StepAttributes(const std::string& path, const CrashModel::Name& name) {
    AttributeChange change;
    const auto type = name.mode & static_cast<uint32_t>(S_IFMT);
    change.mode = 0600 + static_cast<uint32_t>(Random(8)) * 8;
    if (Random(2) == 0) change.uid = static_cast<uint32_t>(Random(5));
    if (Random(3) == 0) change.mtime = 1000000;
    Note(absl::StrCat("chmod ", path));
    CrashModel::Names next = model_.names();
    for (auto& [other, entry] : next) {
      if (entry.object != name.object) continue;
      entry.mode = type | *change.mode;
      entry.uid = change.uid.value_or(entry.uid);
    }
    model_.NamesAre(std::move(next), {name.object});
    Done(overlay().SetAttributes(fs_.Ino(path), change).status());
  }
  void StepFsyncDirectory() {
    Note("fsync directory");
    if (Done(overlay().FsyncDirectory())) model_.NamesDurable();
  }

  // ---- handles ----
  void StepOpen(const std::string& path, const CrashModel::Name& name) {
    Note("open " + path);
    const Handle handle{fs_.Ino(path), name.object};
    if (Done(overlay().Open(handle.ino))) handles_.push_back(handle);
  }
  void StepHandle() {
    const size_t at = random_() % handles_.size();
    const Handle handle = handles_[at];
    if (Random(3) != 0) return StepFile(handle.ino, handle.object, "a handle");
    Note("close");
    handles_.erase(handles_.begin() + static_cast<int64_t>(at));
    overlay().Release(handle.ino);
    ForgetIfGone(handle.ino, handle.object);
  }

  // ---- bytes ----
  void StepFile(uint64_t ino, int object, const std::string& what) {
    switch (Random(10)) {
      case 0:
      case 1:
        return StepTruncate(ino, object, what);
      case 2:
        return StepAllocate(ino, object, what);
      case 3:
        Note("fsync " + what);
        if (Done(overlay().Fsync(ino))) model_.Fsynced(object);
        return;
      case 4:
        return StepCompare(ino, object, what);
      default:
        return StepWrite(ino, object, what);
    }
  }
  void StepWrite(uint64_t ino, int object, const std::string& what) {
    const int64_t offset = RandomOffset();
    const std::string bytes =
        Page(Random(1000), static_cast<size_t>(Random(2) == 0 ? kB : 1 + Random(2 * kB)));
    Note(absl::StrCat("write ", what, " at ", offset, " of ", bytes.size()));
    std::string content = model_.content(object);
    const auto end = static_cast<size_t>(offset) + bytes.size();
    if (content.size() < end) content.resize(end, '\0');
    content.replace(static_cast<size_t>(offset), bytes.size(), bytes);
    model_.ContentIs(object, std::move(content));
    Done(overlay().Write(ino, offset, Bytes(bytes)));
  }
  void StepTruncate(uint64_t ino, int object, const std::string& what) {
    const int64_t size = Random(4) == 0 ? 0 : RandomOffset();
    Note(absl::StrCat("truncate ", what, " to ", size));
    std::string content = model_.content(object);
    content.resize(static_cast<size_t>(size), '\0');
    model_.ContentIs(object, std::move(content));
    AttributeChange change;
    change.size = size;
    Done(overlay().SetAttributes(ino, change).status());
  }
  void StepAllocate(uint64_t ino, int object, const std::string& what) {
    constexpr int kModes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    const int mode = kModes[Random(5)];
    const int64_t offset = RandomOffset();
    const int64_t length = 1 + Random(2 * kB);
    Note(absl::StrCat("fallocate ", what, " mode ", mode, " at ", offset, " of ", length));
    std::string content = model_.content(object);
    const auto end = static_cast<size_t>(offset + length);
    if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) {
      for (auto i = static_cast<size_t>(offset); i < std::min(content.size(), end); ++i) {
        content[i] = '\0';
      }
    }
    if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && content.size() < end) content.resize(end, '\0');
    model_.ContentIs(object, std::move(content));
    Done(overlay().Allocate(ino, mode, offset, length));
  }
  void StepCompare(uint64_t ino, int object, const std::string& what) {
    Note("read " + what);
    const auto content = ReadInode(overlay(), ino);
    EXPECT_TRUE(content.ok() || dead()) << content.status();
    if (!content.ok()) return;
    EXPECT_TRUE(*content == model_.content(object)) << what;
  }

  // Brings the diff back, through further deaths on the way, and checks what is there.
  void Recover(bool machine) {
    bool lost = false;
    handles_.clear();
    for (int attempt = 0; attempt < 10; ++attempt) {
      fs_.Drop();
      if (machine) {
        Note("-- the machine stops");
        fs_.io().Crash();
        lost = true;
      } else {
        Note("-- the process dies");
        fs_.io().Revive();
      }
      if (attempt < 3 && Random(3) == 0) fs_.io().DieAfter(1 + random_() % 25);
      const absl::Status mounted = fs_.Mount();
      if (!dead()) {
        ASSERT_TRUE(mounted.ok()) << mounted;
        break;
      }
      machine = Random(2) == 0;
    }
    fs_.io().Revive();
    if (!lost) model_.OnlyTheLastStates();
    const absl::StatusOr<CrashTree> tree = ReadTree(overlay());
    ASSERT_TRUE(tree.ok()) << tree.status();
    std::string summary;
    for (const auto& [path, node] : *tree)
      absl::StrAppend(&summary, " ", path, "(", node.content.size(), ")");
    Note("-- recovered:" + summary);
    std::string contradiction;
    ASSERT_TRUE(model_.Explains(*tree, &contradiction))
        << "nothing that was allowed explains what is there:" << summary << contradiction;
    model_.Adopt(*tree);  // What was recovered is durable.
  }

  std::mt19937_64 random_;
  SimFixture fs_;
  CrashModel model_;
  std::vector<Handle> handles_;
  std::string log_;
};

TEST(CrashTest, WhatIsThereAfterACrashIsWhatTheRulesAllow) {
  const auto level = spdlog::get_level();
  spdlog::set_level(spdlog::level::off);  // Deaths are no news here.
  const uint64_t only = Setting("PBKFS_CRASH_SEED", 0);
  const uint64_t first = only != 0 ? only : Setting("PBKFS_CRASH_FIRST", 1);
  const uint64_t last = only != 0 ? only : first + Setting("PBKFS_CRASH_SEEDS", 10000) - 1;
  for (uint64_t seed = first; seed <= last; ++seed) {
    CrashRun run(seed);
    run.Run();
    ASSERT_FALSE(HasFailure()) << run.log() << "replay: PBKFS_CRASH_SEED=" << seed
                               << " fs_overlay_test --gtest_filter=CrashTest.*";
  }
  spdlog::set_level(level);
}

}  // namespace
}  // namespace pbkfs
