// A FUSE mount whose serving process is killed and replaced: the test holds the descriptors as the
// keeper does, and client processes that know nothing of it use the mount.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fs/base/status.h"
#include "fs/session/fuse_session.h"
#include "fs/session/session_memory.h"
#include "tests/fs/session/mounted_overlay.h"
#include "tests/support/memory_tree.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

using testsupport::MemoryTree;

// How many kills a storm has; more with PBKFS_RESUME_KILLS.
int Kills() {
  const char* value = getenv("PBKFS_RESUME_KILLS");
  return value == nullptr ? 40 : atoi(value);
}

uint64_t Seed() {
  const char* value = getenv("PBKFS_RESUME_SEED");
  return value == nullptr ? std::random_device{}() : strtoull(value, nullptr, 10);
}

class ResumeTest : public testsupport::MountTest {
 protected:
  void SetUp() override {
    MountTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    target_ = directory_.path() + "/target";
    ASSERT_EQ(mkdir(target_.c_str(), 0700), 0);
    identity_.instance = "main";
    identity_.backup_id = "TEST";
    identity_.list_hash = Lower()->ListHash();
    Mount();
  }

  void TearDown() override {
    if (worker_ > 0) Kill();
    if (mounted_) umount2(target_.c_str(), MNT_FORCE | MNT_DETACH);
  }

  static std::shared_ptr<MemoryTree> Lower() {
    std::map<std::string, MemoryTree::Entry> entries;
    entries["PG_VERSION"] = {S_IFREG | 0600, "15\n"};
    entries["base/1/1259"] = {S_IFREG | 0600, std::string(4 * 8192, 'x')};
    return std::make_shared<MemoryTree>(std::move(entries));
  }
  std::string DiffPath() const { return directory_.path() + "/diff"; }
  std::string At(const std::string& name) const { return absl::StrCat(target_, "/", name); }

  void Mount() {
    fuse_.Reset(open("/dev/fuse", O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(fuse_.valid());
    const std::string data = absl::StrFormat(
        "fd=%d,rootmode=40700,user_id=0,group_id=0,default_permissions,allow_other", fuse_.get());
    ASSERT_EQ(
        mount("pbkfs:test", target_.c_str(), "fuse.pbkfs", MS_NOSUID | MS_NODEV, data.c_str()), 0);
    mounted_ = true;
    StartWorker();
  }

  // The descriptors that the keeper would hold are made by the first worker; here the test makes
  // them, since they are inherited by fork.
  void StartWorker() {
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
    first_diff_.reset();
    char byte = 0;
    ASSERT_EQ(read(ready[0], &byte, 1), 1) << "the worker does not start";
    close(ready[0]);
  }

  int Work(bool first, int ready) {
    auto memory = SessionMemory::Map(UniqueFd(dup(memory_->descriptor())));
    if (!memory.ok()) return 2;
    OverlayOptions options;
    options.stats = (*memory)->figures();
    absl::StatusOr<std::unique_ptr<DiffStore>> diff = std::move(first_diff_);
    Takeover takeover;
    takeover.session_nonce = nonce_;
    takeover.witness = AdoptDirectory(UniqueFd(dup(witness_.get())), DiffPath());
    if (first) {
      // A first session with a nonce that is known: as a takeover of an empty one.
      DiffStore& store = **diff;
      if (!store.Recover(*Lower(), nonce_).ok()) return 3;
    }
    diff = DiffStore::TakeOver(PosixIo(),
                               AdoptDirectory(UniqueFd(dup(held_directory_.get())), DiffPath()),
                               DiffPath(), identity_);
    if (!diff.ok()) return 4;
    takeover.open_inodes = HandleTable((*memory)->handles()).Inodes();
    options.takeover = takeover;
    auto overlay = Overlay::Create(Lower(), *std::move(diff), options);
    if (!overlay.ok()) {
      fprintf(stderr, "%s\n", overlay.status().ToString().c_str());
      return 5;
    }
    auto session = FuseSession::Start(UniqueFd(dup(fuse_.get())), overlay->get(), memory->get(),
                                      SessionOptions{4, "test"});
    if (!session.ok()) {
      fprintf(stderr, "%s\n", session.status().ToString().c_str());
      return 6;
    }
    if (write(ready, "r", 1) != 1) return 7;
    (*session)->Join();
    session->reset();
    return (*overlay)->Close().ok() ? 0 : 8;
  }

  void Kill() {
    kill(worker_, SIGKILL);
    int status = 0;
    waitpid(worker_, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the worker ended by itself: " << status;
    worker_ = -1;
  }
  void Restart() {
    Kill();
    StartWorker();
  }

  // A clean end: the worker's exit code.
  void Unmount() {
    ASSERT_EQ(umount2(target_.c_str(), 0), 0) << strerror(errno);
    mounted_ = false;
    int status = 0;
    waitpid(worker_, &status, 0);
    worker_ = -1;
    EXPECT_EQ(status, 0);
  }

  uint64_t Resent() { return memory_->resent().load(); }

  testsupport::TemporaryDirectory directory_;
  std::string target_;
  DiffIdentity identity_;
  UniqueFd fuse_, held_directory_, held_lock_, witness_;
  uint64_t nonce_ = 0;
  std::unique_ptr<SessionMemory> memory_;
  std::unique_ptr<DiffStore> first_diff_;
  pid_t worker_ = -1;
  bool mounted_ = false;
};

TEST_F(ResumeTest, OpenFilesGoOnInAnotherProcess) {
  const UniqueFd file(open(At("new").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_TRUE(file.valid());
  ASSERT_EQ(pwrite(file.get(), "before", 6, 0), 6);
  Restart();
  ASSERT_EQ(pwrite(file.get(), "after", 5, 6), 5);
  EXPECT_EQ(fsync(file.get()), 0);
  Restart();
  char bytes[12] = {};
  EXPECT_EQ(pread(file.get(), bytes, 11, 0), 11);
  EXPECT_STREQ(bytes, "beforeafter");
}

TEST_F(ResumeTest, AFileWithoutANameLivesWhileItIsOpen) {
  UniqueFd file(open(At("new").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(pwrite(file.get(), "content", 7, 0), 7);
  ASSERT_EQ(unlink(At("new").c_str()), 0);
  UniqueFd lower(open(At("base/1/1259").c_str(), O_RDONLY));
  ASSERT_EQ(unlink(At("base/1/1259").c_str()), 0);
  Restart();
  char bytes[8] = {};
  EXPECT_EQ(pread(file.get(), bytes, 7, 0), 7);
  EXPECT_STREQ(bytes, "content");
  struct stat attributes;
  EXPECT_EQ(fstat(lower.get(), &attributes), 0);
  EXPECT_EQ(pread(lower.get(), bytes, 7, 8192), 7);
  EXPECT_STREQ(bytes, "xxxxxxx");
  file.Reset();
  lower.Reset();
  Restart();
  Unmount();
}

TEST_F(ResumeTest, CountersGoOn) {
  for (int i = 0; i < 5; ++i) ASSERT_EQ(mkdir(At(absl::StrCat("d", i)).c_str(), 0700), 0);
  // A request is counted after it is answered.
  const RequestStats stats(/*threads=*/1, memory_->counters());
  const auto counted = [&stats] { return stats.Figures(MonotonicNanos()).requests["mkdir"]; };
  while (counted() < 5) std::this_thread::yield();
  Restart();
  EXPECT_EQ(counted(), 5u);
  ASSERT_EQ(mkdir(At("d5").c_str(), 0700), 0);
  while (counted() < 6) std::this_thread::yield();
}

// Operations of one client in a directory of its own, checked against what they must give: each
// has exactly one right answer, so that one that is executed twice shows.
class Client {
 public:
  Client(std::string directory, uint64_t seed) : directory_(std::move(directory)), random_(seed) {}

  // "" or what went wrong.
  std::string Run(const std::atomic<bool>& stop, std::atomic<uint64_t>* operations) {
    if (mkdir(directory_.c_str(), 0700) != 0) return Wrong("mkdir", directory_);
    while (!stop.load()) {
      const std::string wrong = Step();
      if (!wrong.empty()) return wrong;
      operations->fetch_add(1);
    }
    return CheckAll();
  }

 private:
  std::string Wrong(const char* what, const std::string& name) {
    return absl::StrCat(what, " ", name, ": ", strerror(errno));
  }
  std::string PathOf(const std::string& name) const { return absl::StrCat(directory_, "/", name); }
  std::string NewName() { return absl::StrCat("f", next_++); }
  std::string AnyFile() {
    auto it = files_.begin();
    std::advance(it, static_cast<long>(random_() % files_.size()));
    return it->first;
  }

  std::string Step() {
    const uint64_t kind = files_.empty() ? 0 : random_() % 9;
    switch (kind) {
      case 0:
      case 1:
        return Create();
      case 2: {
        const std::string name = AnyFile();
        if (unlink(PathOf(name).c_str()) != 0) return Wrong("unlink", name);
        files_.erase(name);
        return "";
      }
      case 3: {
        const std::string from = AnyFile();
        const std::string to = random_() % 2 == 0 ? NewName() : AnyFile();
        if (rename(PathOf(from).c_str(), PathOf(to).c_str()) != 0) return Wrong("rename", from);
        if (from != to) {
          files_[to] = files_[from];
          files_.erase(from);
        }
        return "";
      }
      case 4: {
        const std::string from = AnyFile();
        const std::string to = NewName();
        if (link(PathOf(from).c_str(), PathOf(to).c_str()) != 0) return Wrong("link", from);
        // Renaming one name over another of the same file does nothing: keep the model simple.
        if (unlink(PathOf(from).c_str()) != 0) return Wrong("unlink", from);
        files_[to] = files_[from];
        files_.erase(from);
        return "";
      }
      case 5: {
        const std::string name = NewName();
        if (mkdir(PathOf(name).c_str(), 0700) != 0) return Wrong("mkdir", name);
        if (rmdir(PathOf(name).c_str()) != 0) return Wrong("rmdir", name);
        return "";
      }
      case 6: {
        const std::string name = NewName();
        if (symlink("nowhere", PathOf(name).c_str()) != 0) return Wrong("symlink", name);
        if (unlink(PathOf(name).c_str()) != 0) return Wrong("unlink symlink", name);
        return "";
      }
      case 7:
        return UnlinkedButOpen();
      default:
        return Overwrite();
    }
  }

  std::string Content() { return absl::StrCat(random_()); }

  std::string Create() {
    const std::string name = NewName();
    const std::string content = Content();
    const UniqueFd file(open(PathOf(name).c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
    if (!file.valid()) return Wrong("create", name);
    if (write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
      return Wrong("write", name);
    }
    files_[name] = content;
    return "";
  }

  std::string Overwrite() {
    const std::string name = AnyFile();
    const std::string content = Content();
    const UniqueFd file(open(PathOf(name).c_str(), O_WRONLY | O_TRUNC));
    if (!file.valid()) return Wrong("open", name);
    if (write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
      return Wrong("overwrite", name);
    }
    if (random_() % 4 == 0 && fsync(file.get()) != 0) return Wrong("fsync", name);
    files_[name] = content;
    return "";
  }

  std::string UnlinkedButOpen() {
    const std::string name = NewName();
    const UniqueFd file(open(PathOf(name).c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
    if (!file.valid()) return Wrong("create", name);
    if (unlink(PathOf(name).c_str()) != 0) return Wrong("unlink open", name);
    const std::string content = Content();
    if (write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
      return Wrong("write unlinked", name);
    }
    std::string back(content.size(), '\0');
    if (pread(file.get(), back.data(), back.size(), 0) != static_cast<ssize_t>(back.size()) ||
        back != content) {
      return Wrong("read unlinked", name);
    }
    return "";
  }

  std::string CheckAll() {
    DIR* directory = opendir(directory_.c_str());
    if (directory == nullptr) return Wrong("opendir", directory_);
    size_t found = 0;
    while (const dirent* entry = readdir(directory)) {
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      ++found;
      if (files_.count(name) == 0) {
        closedir(directory);
        return absl::StrCat(name, " should not be there");
      }
    }
    closedir(directory);
    if (found != files_.size()) return absl::StrCat(files_.size() - found, " files are missing");
    for (const auto& [name, content] : files_) {
      const UniqueFd file(open(PathOf(name).c_str(), O_RDONLY));
      if (!file.valid()) return Wrong("open", name);
      std::string bytes(content.size() + 8, '\0');
      const ssize_t count = pread(file.get(), bytes.data(), bytes.size(), 0);
      if (count < 0) return Wrong("read", name);
      bytes.resize(static_cast<size_t>(count));
      if (bytes != content) return absl::StrCat(name, " is '", bytes, "', not '", content, "'");
    }
    return "";
  }

  const std::string directory_;
  std::mt19937_64 random_;
  std::map<std::string, std::string> files_;
  int next_ = 0;
};

TEST_F(ResumeTest, EveryOperationIsDoneOnceHoweverOftenTheWorkerIsKilled) {
  const uint64_t seed = Seed();
  printf("seed %lu; replay: PBKFS_RESUME_SEED=%lu %s --gtest_filter='ResumeTest.EveryOperation*'\n",
         seed, seed, program_invocation_name);
  fflush(stdout);
  struct Shared {
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> operations{0};
  };
  auto* shared =
      new (mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
          Shared;
  constexpr int kClients = 4;
  std::vector<pid_t> clients;
  std::mt19937_64 random(seed);
  for (int i = 0; i < kClients; ++i) {
    const uint64_t client_seed = random();
    const pid_t client = fork();
    if (client == 0) {
      // A descriptor of the connection would keep it alive past the test.
      fuse_.Reset();
      Client model(At(absl::StrCat("client", i)), client_seed);
      const std::string wrong = model.Run(shared->stop, &shared->operations);
      if (!wrong.empty()) fprintf(stderr, "client %d: %s\n", i, wrong.c_str());
      _exit(wrong.empty() ? 0 : 1);
    }
    clients.push_back(client);
  }
  std::vector<double> milliseconds;
  for (int killed = 0; killed < Kills(); ++killed) {
    // The kill waits for progress, so that each worker has served something, and then comes at a
    // random point of it.
    const uint64_t goal = shared->operations + 1 + random() % 200;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (shared->operations < goal && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::microseconds(50 + random() % 200));
      if (waitpid(-1, nullptr, WNOHANG | WNOWAIT) > 0) break;
    }
    const auto start = std::chrono::steady_clock::now();
    Restart();
    milliseconds.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
            .count());
  }
  shared->stop = true;
  for (const pid_t client : clients) {
    int status = 0;
    waitpid(client, &status, 0);
    EXPECT_EQ(status, 0) << "a client saw what must not happen";
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  printf("%d kills, %lu operations, %lu requests sent again; restart p50 %.1f ms, max %.1f ms\n",
         Kills(), shared->operations.load(), Resent(), milliseconds[milliseconds.size() / 2],
         milliseconds.back());
  EXPECT_GT(Resent(), 0u) << "no request was in flight at any kill: the test proves nothing";
  // One more request ends the wait for requests that are sent again; the kernel releases handles
  // in the background.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  size_t handles = 0;
  do {
    struct stat attributes;
    ASSERT_EQ(stat(At("PG_VERSION").c_str(), &attributes), 0);
    handles = HandleTable(memory_->handles()).Inodes().size();
  } while (handles > 0 && std::chrono::steady_clock::now() < deadline);
  EXPECT_EQ(handles, 0u) << "handles are leaked";
  Unmount();
}

}  // namespace
}  // namespace pbkfs
