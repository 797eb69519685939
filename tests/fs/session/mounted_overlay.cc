#include "tests/fs/session/mounted_overlay.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "service/keeper/mounter.h"
#include "tests/support/must_run.h"

namespace pbkfs::testsupport {
namespace {

// The directory that holds all mounts of this process. A child waits for the end of the process,
// however it comes, and detaches what is left.
class MountPlace : public testing::Environment {
 public:
  void SetUp() override {
    if (!MountingIsImpossible().empty()) return;
    directory_ = std::make_unique<TemporaryDirectory>();
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const pid_t janitor = fork();
    ASSERT_GE(janitor, 0);
    if (janitor == 0) {
      close(ends[1]);
      setsid();  // A kill of the test's process group must not reach it.
      char byte;
      while (read(ends[0], &byte, 1) < 0) {
      }
      DetachAllUnder(directory_->path());
      _exit(0);
    }
    close(ends[0]);
    alive_ = UniqueFd(ends[1]);
    janitor_ = janitor;
  }
  void TearDown() override {
    if (janitor_ == 0) return;
    alive_ = UniqueFd();
    waitpid(janitor_, nullptr, 0);
    directory_.reset();
  }
  std::string NewTarget() {
    std::string target = directory_->path() + "/m" + std::to_string(targets_++);
    mkdir(target.c_str(), 0700);
    return target;
  }

 private:
  static void DetachAllUnder(const std::string& directory) {
    std::ifstream table("/proc/self/mountinfo");
    std::string line;
    while (std::getline(table, line)) {
      std::istringstream fields(line);
      std::string id, parent, numbers, root, mount_point;
      fields >> id >> parent >> numbers >> root >> mount_point;
      if (mount_point.rfind(directory + "/", 0) == 0) umount2(mount_point.c_str(), MNT_DETACH);
    }
  }

  std::unique_ptr<TemporaryDirectory> directory_;
  UniqueFd alive_;
  pid_t janitor_ = 0;
  int targets_ = 0;
};

MountPlace* const place =
    static_cast<MountPlace*>(testing::AddGlobalTestEnvironment(new MountPlace));

}  // namespace

std::string MountingIsImpossible() {
  if (geteuid() != 0) return "only root can mount";
  const UniqueFd fuse(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fuse.valid()) return std::string("/dev/fuse can't be opened: ") + strerror(errno);
  return "";
}

MountedOverlay::MountedOverlay(std::map<std::string, MemoryTree::Entry> lower,
                               const OverlayOptions& options)
    : options_(options), fs_(std::move(lower)), target_(place->NewTarget()) {
  fs_.Unmount();
  Mount();
}

MountedOverlay::~MountedOverlay() { Detach(); }

void MountedOverlay::Mount() {
  fs_.Mount(options_);
  FuseMountOptions options;
  options.target = target_;
  options.mount_id = "test";
  options.read_only = options_.read_only;
  absl::StatusOr<UniqueFd> fuse = OpenFuse();
  ASSERT_TRUE(fuse.ok()) << fuse.status();
  const absl::Status mounted = MountFuse(options, *fuse);
  ASSERT_TRUE(mounted.ok()) << mounted;
  memory_ = *SessionMemory::Create(fs_.overlay().session_nonce());
  auto session =
      FuseSession::Start(*std::move(fuse), &fs_.overlay(), memory_.get(), SessionOptions{});
  ASSERT_TRUE(session.ok()) << session.status();
  session_ = *std::move(session);
}

void MountedOverlay::Detach() {
  fs_.io().set_hook(nullptr);
  DetachFuse(target_).IgnoreError();
  session_.reset();
}

void MountedOverlay::Remount() {
  absl::Status unmounted;
  // The kernel puts the last references to files aside for a moment.
  ASSERT_TRUE(Eventually([&] {
    unmounted = UnmountFuse(target_);
    return ErrnoOf(unmounted) != EBUSY;
  }));
  ASSERT_TRUE(unmounted.ok()) << unmounted;
  session_.reset();
  fs_.Unmount();
  Mount();
}

void MountedOverlay::DieAndRemount() {
  Detach();
  fs_.Die();
  Mount();
}

void MountTest::SetUp() {
  const std::string cause = MountingIsImpossible();
  if (cause.empty()) return;
  if (MustRunAllTests()) FAIL() << cause << " (PBKFS_REQUIRE_ALL=1)";
  GTEST_SKIP() << cause;
}

int InChild(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

UniqueFd OpenFile(const std::string& path, int flags, mode_t mode) {
  UniqueFd fd(open(path.c_str(), flags | O_CLOEXEC, mode));
  EXPECT_TRUE(fd.valid()) << path << ": " << strerror(errno);
  return fd;
}

int64_t SizeFromDaemon(int fd) {
  struct statx attributes;
  if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_SIZE, &attributes) != 0) return -1;
  return static_cast<int64_t>(attributes.stx_size);
}

AlignedBuffer::AlignedBuffer(size_t size)
    : size_(size), data_(static_cast<char*>(aligned_alloc(4096, (size + 4095) / 4096 * 4096))) {
  memset(data_.get(), '?', size);
}

AlignedBuffer::AlignedBuffer(const std::string& content) : AlignedBuffer(content.size()) {
  memcpy(data_.get(), content.data(), content.size());
}

bool Eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace pbkfs::testsupport
