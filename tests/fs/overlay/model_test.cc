// Random operations against the overlay and against a model in memory, compared after every step;
// remounts in between, half of the sequences with several threads. PBKFS_MODEL_SEEDS=N runs N
// seeds, PBKFS_MODEL_SEED=S only the seed S: a failure prints the latter.
#include "tests/fs/overlay/model.h"

#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <cerrno>
#include <thread>

#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::Bytes;
using testsupport::ModelFacts;
using testsupport::ModelFile;
using testsupport::OverlayFixture;
using testsupport::Setting;

// The overlay by itself. It stands in for the kernel where that keeps track of open files.
class OverlaySubject : public testsupport::ModelSubject {
 public:
  OverlaySubject(OverlayFixture& fs, int runs)
      : fs_(fs), slots_(static_cast<size_t>(runs * testsupport::ModelRun::kSlots)) {}

  int Create(const std::string& path) override { return ErrnoOf(fs_.Create(path)); }
  int Mkdir(const std::string& path) override { return ErrnoOf(fs_.Mkdir(path)); }
  int Symlink(const std::string& target, const std::string& path) override {
    const auto [parent, name] = fs_.Split(path);
    NewNode node;
    node.mode = S_IFLNK | 0777;
    node.symlink = target;
    return ErrnoOf(overlay().Create(parent, name, node, RequestId{}).status());
  }
  int Link(const std::string& from, const std::string& to) override {
    return ErrnoOf(fs_.Link(from, to));
  }
  int Unlink(const std::string& path) override { return ErrnoOf(fs_.Unlink(path)); }
  int Rmdir(const std::string& path) override { return ErrnoOf(fs_.Rmdir(path)); }
  int Rename(const std::string& from, const std::string& to, bool replace) override {
    return ErrnoOf(fs_.Rename(from, to, replace ? 0 : RENAME_NOREPLACE));
  }
  int Chmod(const std::string& path, uint32_t mode) override {
    AttributeChange change;
    change.mode = mode;
    return Change({path, -1}, change);
  }
  int Chown(const std::string& path, uint32_t uid, uint32_t gid) override {
    AttributeChange change;
    change.uid = uid;
    change.gid = gid;
    return Change({path, -1}, change);
  }
  int SetMtime(const std::string& path, int64_t nanos) override {
    AttributeChange change;
    change.mtime = nanos;
    return Change({path, -1}, change);
  }
  int List(const std::string& path, std::multiset<std::string>* names) override {
    return ErrnoOf(
        overlay().ReadDirectory(fs_.Ino(path), kCookieDotDot, [names](const DirectoryEntry& entry) {
          names->insert(std::string(entry.name));
          return true;
        }));
  }
  int ReadLink(const std::string& path, std::string* target) override {
    const auto result = overlay().ReadLink(fs_.Ino(path));
    if (result.ok()) *target = *result;
    return ErrnoOf(result.status());
  }
  int Open(const std::string& path, int slot) override {
    slots_[static_cast<size_t>(slot)] = fs_.Ino(path);
    return ErrnoOf(overlay().Open(InoOf({"", slot})));
  }
  void Close(int slot) override {
    const uint64_t ino = InoOf({"", slot});
    overlay().Release(ino);
    const auto attributes = overlay().GetAttributes(ino);
    // The inode of a file with names is remembered, as the kernel does; that of an orphan goes with
    // its last handle, which the overlay sees for itself.
    if (attributes.ok() && attributes->nlink == 0) overlay().Forget(ino);
  }
  int Stat(const ModelFile& file, ModelFacts* facts) override {
    const auto found = overlay().GetAttributes(InoOf(file));
    if (!found.ok()) return ErrnoOf(found.status());
    *facts = {found->mode, found->nlink, found->uid, found->gid, found->size, found->mtime};
    return 0;
  }
  int Read(const ModelFile& file, std::string* bytes) override {
    auto result = fs_.ReadIno(InoOf(file), 0, 1 << 17);
    if (result.ok()) *bytes = *std::move(result);
    return ErrnoOf(result.status());
  }
  int Write(const ModelFile& file, int64_t offset, const std::string& bytes) override {
    return ErrnoOf(overlay().Write(InoOf(file), offset, Bytes(bytes)));
  }
  int Truncate(const ModelFile& file, int64_t size) override {
    AttributeChange change;
    change.size = size;
    return Change(file, change);
  }
  int Allocate(const ModelFile& file, int mode, int64_t offset, int64_t length) override {
    return ErrnoOf(overlay().Allocate(InoOf(file), mode, offset, length));
  }
  int Fsync(const ModelFile& file) override { return ErrnoOf(overlay().Fsync(InoOf(file))); }

 private:
  Overlay& overlay() { return fs_.overlay(); }
  uint64_t InoOf(const ModelFile& file) {
    return file.slot < 0 ? fs_.Ino(file.path) : slots_[static_cast<size_t>(file.slot)];
  }
  int Change(const ModelFile& file, const AttributeChange& change) {
    return ErrnoOf(overlay().SetAttributes(InoOf(file), change).status());
  }

  OverlayFixture& fs_;
  std::vector<uint64_t> slots_;  // Inode numbers of open files.
};

TEST(ModelTest, RandomOperationsAgreeWithTheModel) {
  const uint64_t only = Setting("PBKFS_MODEL_SEED", 0);
  const uint64_t first = only != 0 ? only : 1;
  const uint64_t last = only != 0 ? only : Setting("PBKFS_MODEL_SEEDS", 30);
  for (uint64_t seed = first; seed <= last; ++seed) {
    const int runs = seed % 2 == 0 ? 1 : 2 + static_cast<int>(seed / 2 % 2);
    OverlayFixture fs(testsupport::ModelLower(runs));
    OverlaySubject subject(fs, runs);
    // Threads take turns in the middle of their writes.
    fs.io().set_hook([runs](const std::string& operation, const std::string& name) {
      if (runs > 1 && operation == "write" && name != "log") std::this_thread::yield();
      return absl::OkStatus();
    });
    OverlayOptions options;
    options.background_interval = std::chrono::milliseconds(runs == 1 ? 10000 : 5);
    options.materialize_on_read = seed % 3 == 0;
    testsupport::RunModel(seed, runs, /*rounds=*/8, /*steps=*/60, subject, [&](uint64_t random) {
      switch (random % 4) {
        case 0:
          return;
        case 1:
          EXPECT_TRUE(fs.overlay().Checkpoint().ok());
          return;
        case 2:
          fs.Unmount();
          break;
        default:
          fs.Die();
      }
      fs.Mount(options);
    });
    ASSERT_FALSE(HasFailure()) << "replay: PBKFS_MODEL_SEED=" << seed
                               << " fs_overlay_test --gtest_filter=ModelTest.*";
  }
}

}  // namespace
}  // namespace pbkfs
