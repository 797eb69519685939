// The random operations of tests/fs/overlay/model.h by system calls on a real mount.
// PBKFS_MODEL_SEEDS=N runs N seeds, PBKFS_MODEL_SEED=S only the seed S: a failure prints the
// latter.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "tests/fs/overlay/model.h"
#include "tests/fs/session/mounted_overlay.h"

namespace pbkfs {
namespace {

using testsupport::ModelFacts;
using testsupport::ModelFile;
using testsupport::MountedOverlay;
using testsupport::Setting;

int Errno(int64_t result) { return result < 0 ? errno : 0; }

class MountSubject : public testsupport::ModelSubject {
 public:
  MountSubject(MountedOverlay& mount, int runs)
      : mount_(mount), slots_(static_cast<size_t>(runs * testsupport::ModelRun::kSlots)) {}

  int Create(const std::string& path) override {
    const UniqueFd fd(open(At(path).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    return fd.valid() ? 0 : errno;
  }
  int Mkdir(const std::string& path) override { return Errno(mkdir(At(path).c_str(), 0700)); }
  int Symlink(const std::string& target, const std::string& path) override {
    return Errno(symlink(target.c_str(), At(path).c_str()));
  }
  int Link(const std::string& from, const std::string& to) override {
    return Errno(link(At(from).c_str(), At(to).c_str()));
  }
  int Unlink(const std::string& path) override { return Errno(unlink(At(path).c_str())); }
  int Rmdir(const std::string& path) override { return Errno(rmdir(At(path).c_str())); }
  int Rename(const std::string& from, const std::string& to, bool replace) override {
    return Errno(renameat2(AT_FDCWD, At(from).c_str(), AT_FDCWD, At(to).c_str(),
                           replace ? 0 : RENAME_NOREPLACE));
  }
  int Chmod(const std::string& path, uint32_t mode) override {
    return Errno(chmod(At(path).c_str(), mode));
  }
  int Chown(const std::string& path, uint32_t uid, uint32_t gid) override {
    return Errno(lchown(At(path).c_str(), uid, gid));
  }
  int SetMtime(const std::string& path, int64_t nanos) override {
    const struct timespec times[2] = {{0, UTIME_OMIT}, {nanos / 1000000000, nanos % 1000000000}};
    return Errno(utimensat(AT_FDCWD, At(path).c_str(), times, AT_SYMLINK_NOFOLLOW));
  }
  int List(const std::string& path, std::multiset<std::string>* names) override {
    DIR* directory = opendir(At(path).c_str());
    if (directory == nullptr) return errno;
    while (const dirent* entry = readdir(directory)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names->insert(name);
    }
    return Errno(closedir(directory));
  }
  int ReadLink(const std::string& path, std::string* target) override {
    char buffer[4096];
    const ssize_t size = readlink(At(path).c_str(), buffer, sizeof(buffer));
    if (size >= 0) target->assign(buffer, static_cast<size_t>(size));
    return Errno(size);
  }
  int Open(const std::string& path, int slot) override {
    UniqueFd& fd = slots_[static_cast<size_t>(slot)];
    fd.Reset(open(At(path).c_str(), O_RDWR | O_CLOEXEC));
    return fd.valid() ? 0 : errno;
  }
  void Close(int slot) override { slots_[static_cast<size_t>(slot)].Reset(); }
  int Stat(const ModelFile& file, ModelFacts* facts) override {
    struct stat found;
    const int result = file.slot < 0 ? lstat(At(file.path).c_str(), &found)
                                     : fstat(slots_[static_cast<size_t>(file.slot)].get(), &found);
    if (result != 0) return errno;
    *facts = {found.st_mode, static_cast<uint32_t>(found.st_nlink),
              found.st_uid,  found.st_gid,
              found.st_size, found.st_mtim.tv_sec * int64_t{1000000000} + found.st_mtim.tv_nsec};
    return 0;
  }
  int Read(const ModelFile& file, std::string* bytes) override {
    return WithFd(file, [bytes](int fd) {
      bytes->resize(1 << 17);
      const ssize_t count = pread(fd, bytes->data(), bytes->size(), 0);
      bytes->resize(count < 0 ? 0 : static_cast<size_t>(count));
      return Errno(count);
    });
  }
  int Write(const ModelFile& file, int64_t offset, const std::string& bytes) override {
    return WithFd(file, [&](int fd) {
      const ssize_t count = pwrite(fd, bytes.data(), bytes.size(), offset);
      return count >= 0 && count < static_cast<ssize_t>(bytes.size()) ? EIO : Errno(count);
    });
  }
  int Truncate(const ModelFile& file, int64_t size) override {
    return WithFd(file, [size](int fd) { return Errno(ftruncate(fd, size)); });
  }
  int Allocate(const ModelFile& file, int mode, int64_t offset, int64_t length) override {
    return WithFd(file, [&](int fd) { return Errno(fallocate(fd, mode, offset, length)); });
  }
  int Fsync(const ModelFile& file) override {
    return WithFd(file, [](int fd) { return Errno(fsync(fd)); });
  }

 private:
  std::string At(const std::string& path) const { return mount_.Path(path); }
  template <typename Call>
  int WithFd(const ModelFile& file, Call call) {
    if (file.slot >= 0) return call(slots_[static_cast<size_t>(file.slot)].get());
    const UniqueFd fd(open(At(file.path).c_str(), O_RDWR | O_CLOEXEC));
    return fd.valid() ? call(fd.get()) : errno;
  }

  MountedOverlay& mount_;
  std::vector<UniqueFd> slots_;
};

class MountModel : public testsupport::MountTest {};

TEST_F(MountModel, RandomSystemCallsAgreeWithTheModel) {
  const mode_t old_umask = umask(0);
  const uint64_t only = Setting("PBKFS_MODEL_SEED", 0);
  const uint64_t first = only != 0 ? only : 1;
  const uint64_t last = only != 0 ? only : Setting("PBKFS_MODEL_SEEDS", 8);
  for (uint64_t seed = first; seed <= last; ++seed) {
    const int runs = seed % 2 == 0 ? 1 : 2 + static_cast<int>(seed / 2 % 2);
    OverlayOptions options;
    options.background_interval = std::chrono::milliseconds(runs == 1 ? 10000 : 5);
    MountedOverlay mount(testsupport::ModelLower(runs), options);
    MountSubject subject(mount, runs);
    testsupport::RunModel(seed, runs, /*rounds=*/6, /*steps=*/100, subject, [&](uint64_t random) {
      switch (random % 3) {
        case 0:
          EXPECT_TRUE(mount.overlay().Checkpoint().ok());
          return;
        case 1:
          return mount.Remount();
        default:
          return mount.DieAndRemount();
      }
    });
    ASSERT_FALSE(HasFailure()) << "replay: PBKFS_MODEL_SEED=" << seed
                               << " fs_session_test --gtest_filter=MountModel.*";
  }
  umask(old_umask);
}

}  // namespace
}  // namespace pbkfs
