#include "tests/fs/session/resume_fixture.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "fs/base/status.h"
#include "fs/diff/check.h"
#include "fs/session/fuse_session.h"
#include "fs/session/handle_table.h"
#include "tests/support/fault_io.h"

namespace pbkfs::testsupport {
namespace {

std::shared_ptr<MemoryTree> Lower() {
  std::map<std::string, MemoryTree::Entry> entries;
  entries["PG_VERSION"] = {S_IFREG | 0600, "15\n"};
  entries["base/1/1259"] = {S_IFREG | 0600, std::string(4 * 8192, 'x')};
  return std::make_shared<MemoryTree>(std::move(entries));
}

}  // namespace

void* SharedMemory(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) abort();
  return memory;
}

void ResumeTest::SetUp() {
  MountTest::SetUp();
  if (IsSkipped() || HasFatalFailure()) return;
  target_ = directory_.path() + "/target";
  ASSERT_EQ(mkdir(target_.c_str(), 0700), 0);
  identity_.instance = "main";
  identity_.backup_id = "TEST";
  identity_.list_hash = Lower()->ListHash();
  orders_ = NewShared<WorkerOrders>();
  Mount();
}

void ResumeTest::TearDown() {
  if (worker_ > 0) {
    kill(worker_, SIGKILL);
    waitpid(worker_, nullptr, 0);
  }
  if (mounted_) umount2(target_.c_str(), MNT_FORCE | MNT_DETACH);
}

void ResumeTest::Mount() {
  PrepareMount();
  StartWorker();
}

void ResumeTest::PrepareMount() {
  fuse_.Reset(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(fuse_.valid());
  const std::string data = absl::StrFormat(
      "fd=%d,rootmode=40700,user_id=0,group_id=0,default_permissions,allow_other", fuse_.get());
  ASSERT_EQ(mount("pbkfs:test", target_.c_str(), "fuse.pbkfs", MS_NOSUID | MS_NODEV, data.c_str()),
            0);
  mounted_ = true;
  memory_.reset();
}

// The descriptors that the keeper would hold are made by the first worker; here the test makes
// them, since they are inherited by fork.
void ResumeTest::BeginWorker() {
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  const bool first = memory_ == nullptr;
  if (first) {
    auto diff = DiffStore::Open(PosixIo(), DiffPath(), identity_);
    ASSERT_TRUE(diff.ok()) << diff.status();
    held_directory_.Reset(dup((*diff)->directory_descriptor()));
    held_lock_.Reset(dup((*diff)->lock_descriptor()));
    witness_.Reset(openat(held_directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    nonce_ = RandomNonce();
    memory_ = *SessionMemory::Create(nonce_);
    first_diff_ = *std::move(diff);
  }
  worker_ = fork();
  ASSERT_GE(worker_, 0);
  if (worker_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(ready[0]);
    _exit(Work(first, ready[1]));
  }
  close(ready[1]);
  ready_.Reset(ready[0]);
  first_diff_.reset();
}

bool ResumeTest::AwaitReady() {
  char byte = 0;
  return read(ready_.get(), &byte, 1) == 1;
}

void ResumeTest::StartWorker() {
  BeginWorker();
  ASSERT_TRUE(AwaitReady()) << "the worker does not start";
}

int ResumeTest::Work(bool first, int ready) {
  auto memory = SessionMemory::Map(UniqueFd(dup(memory_->descriptor())));
  if (!memory.ok()) return 2;
  FaultIo io;
  io.set_hook([this](const std::string& operation, const std::string& name) -> absl::Status {
    if (operation == "sync" && name == "log" && orders_->fail_log_syncs) {
      return ErrnoError(EIO, "as ordered");
    }
    if (operation == "write" && orders_->hold_writes) {
      ++orders_->held_writes;
      while (orders_->hold_writes) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      --orders_->held_writes;
    }
    if (orders_->io_steps > 0 && --orders_->io_steps == 0) raise(SIGKILL);
    return absl::OkStatus();
  });
  OverlayOptions options;
  options.stats = (*memory)->figures();
  options.pending_counters = (*memory)->pending_counters();
  options.sync_failed = [&memory] { (*memory)->SetSyncFailed(); };
  options.log_failed = [&memory](bool failed) { (*memory)->SetLogFailed(failed); };
  absl::StatusOr<std::unique_ptr<DiffStore>> diff = std::move(first_diff_);
  Takeover takeover;
  takeover.session_nonce = nonce_;
  takeover.sync_failed = (*memory)->sync_failed();
  takeover.witness = AdoptDirectory(UniqueFd(dup(witness_.get())), DiffPath());
  if (first) {
    // A first session with a nonce that is known: as a takeover of an empty one.
    DiffStore& store = **diff;
    if (!store.Recover(*Lower(), nonce_).ok()) return 3;
  }
  auto directory = io.OpenDir(DiffPath());
  if (!directory.ok()) return 4;
  diff = DiffStore::TakeOver(io, *std::move(directory), DiffPath(), identity_);
  if (!diff.ok()) return 4;
  if (!unmounted_) takeover.open_inodes = HandleTable((*memory)->handles()).Inodes();
  options.takeover = takeover;
  auto overlay = Overlay::Create(Lower(), *std::move(diff), options);
  if (!overlay.ok()) {
    fprintf(stderr, "%s\n", overlay.status().ToString().c_str());
    return 5;
  }
  std::atomic<bool> served = false;
  std::thread checkpoints([this, &overlay, &served] {
    while (!served) {
      if (orders_->checkpoints_asked > orders_->checkpoints_made) {
        (*overlay)->Checkpoint().IgnoreError();
        ++orders_->checkpoints_made;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  const int result = Serve(ready, overlay->get(), memory->get());
  served = true;
  checkpoints.join();
  if (result != 0) return result;
  return (*overlay)->Close().ok() ? 0 : 8;
}

int ResumeTest::Serve(int ready, Overlay* overlay, SessionMemory* memory) {
  if (unmounted_) return write(ready, "r", 1) == 1 ? 0 : 7;
  UniqueFd fuse(dup(fuse_.get()));
  if (relay_ != nullptr) {
    auto relayed = StartFuseRelay(std::move(fuse), relay_);
    if (!relayed.ok()) return 6;
    fuse = *std::move(relayed);
  }
  auto session = FuseSession::Start(std::move(fuse), overlay, memory, SessionOptions{4, "test"});
  if (!session.ok()) {
    fprintf(stderr, "%s\n", session.status().ToString().c_str());
    return 6;
  }
  if (write(ready, "r", 1) != 1) return 7;
  (*session)->Join();
  return 0;
}

void ResumeTest::Kill() {
  kill(worker_, SIGKILL);
  AwaitDeath();
}

void ResumeTest::AwaitDeath() {
  ASSERT_TRUE(Eventually([this] { return WorkerDied(); })) << "the worker does not die";
}

bool ResumeTest::WorkerDied() {
  int status = 0;
  if (waitpid(worker_, &status, WNOHANG) == 0) return false;
  EXPECT_TRUE(WIFSIGNALED(status)) << "the worker ended by itself: " << status;
  worker_ = -1;
  return true;
}

void ResumeTest::Unmount() {
  Detach();
  int status = 0;
  waitpid(worker_, &status, 0);
  worker_ = -1;
  EXPECT_EQ(status, 0);
  held_lock_.Reset();
  CheckDiffIsClean();
}

void ResumeTest::Detach() {
  // The kernel puts the last references to files aside for a moment.
  ASSERT_TRUE(Eventually([this] { return umount2(target_.c_str(), 0) == 0 || errno != EBUSY; }));
  mounted_ = false;
}

void ResumeTest::CheckDiffIsClean() {
  DiffCheckOptions options;
  const auto lower = Lower();
  options.lower = lower.get();
  const auto report = CheckDiff(PosixIo(), DiffPath(), options);
  ASSERT_TRUE(report.ok()) << report.status();
  for (const DiffFinding& finding : report->findings.list()) {
    EXPECT_TRUE(finding.severity == FindingSeverity::kInfo)
        << finding.subject << ": " << finding.message;
  }
}

void ResumeTest::AbortConnection() {
  umount2(target_.c_str(), MNT_FORCE | MNT_DETACH);
  mounted_ = false;
  fuse_.Reset();
  held_lock_.Reset();
}

pid_t ResumeTest::StartClient(const std::function<int()>& body) {
  const pid_t client = fork();
  EXPECT_GE(client, 0);
  if (client == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // A descriptor of the connection would keep it alive past the test.
    fuse_.Reset();
    held_lock_.Reset();
    _exit(body());
  }
  return client;
}

int ResumeTest::WaitForClient(pid_t client) {
  int status = 0;
  while (waitpid(client, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void ResumeTest::AskForResend() {
  constexpr int32_t kNotifyResend = 7;
  const fuse_out_header notification = {sizeof(notification), kNotifyResend, 0};
  ASSERT_EQ(write(fuse_.get(), &notification, sizeof(notification)),
            static_cast<ssize_t>(sizeof(notification)));
}

void ResumeTest::ExpectHandles(size_t most) {
  // One more request ends the wait for requests that are sent again; the kernel releases handles in
  // the background.
  EXPECT_TRUE(Eventually([this, most] {
    struct statfs figures;
    statfs(target_.c_str(), &figures);
    return HandleTable(memory_->handles()).Inodes().size() <= most;
  })) << "handles are leaked";
}

}  // namespace pbkfs::testsupport
