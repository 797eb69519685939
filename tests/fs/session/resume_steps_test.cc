// Workers that die at each step of what they do with the disk: of a sync, a checkpoint of the log,
// a mount, an unmount.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "tests/fs/session/resume_fixture.h"

namespace pbkfs {
namespace {

using testsupport::Eventually;
using testsupport::ResumeTest;

class ResumeStepsTest : public ResumeTest {
 protected:
  // Work for a sync: a new file, a changed one, a name that goes.
  int Change() {
    const std::string text = std::to_string(++changes_);
    for (const char* name : {"base/1/1259", "new"}) {
      const UniqueFd file(open(At(name).c_str(), O_RDWR | O_CREAT, 0600));
      if (!file.valid() || pwrite(file.get(), text.data(), text.size(), 8192) < 0) return errno;
    }
    if (rename(At("new").c_str(), At("renamed").c_str()) != 0) return errno;
    return 0;
  }
  int Sync() {
    const UniqueFd file(open(At("base/1/1259").c_str(), O_RDONLY));
    return file.valid() && fsync(file.get()) == 0 ? 0 : errno;
  }
  void ExpectTheLastChange() {
    const std::string text = std::to_string(changes_);
    for (const char* name : {"base/1/1259", "renamed"}) {
      std::string bytes(text.size(), '\0');
      const UniqueFd file(open(At(name).c_str(), O_RDONLY));
      EXPECT_EQ(pread(file.get(), bytes.data(), bytes.size(), 8192),
                static_cast<ssize_t>(bytes.size()));
      EXPECT_EQ(bytes, text) << name;
    }
  }

  int changes_ = 0;
};

TEST_F(ResumeStepsTest, ASyncIsKilledAtEachStep) {
  int deaths = 0;
  for (int step = 1;; ++step) {
    ASSERT_EQ(Change(), 0);
    orders_->io_steps = step;
    const pid_t client = StartClient([this] { return Sync(); });
    siginfo_t ended = {};
    bool died = false;
    ASSERT_TRUE(Eventually([&] {
      died = died || WorkerDied();
      waitid(P_PID, static_cast<id_t>(client), &ended, WEXITED | WNOHANG | WNOWAIT);
      return died || ended.si_pid == client;
    }));
    orders_->io_steps = 0;
    if (died) {
      ++deaths;
      StartWorker();
    }
    EXPECT_EQ(WaitForClient(client), 0);
    ExpectTheLastChange();
    if (!died) break;
  }
  printf("%d deaths in a sync, %lu requests sent again\n", deaths, Resent());
  EXPECT_GE(deaths, 1);  // The rest of it may be done already, by a rename over the file.
  EXPECT_GE(Resent(), static_cast<uint64_t>(deaths));
  Unmount();
}

TEST_F(ResumeStepsTest, ACheckpointIsKilledAtEachStep) {
  int deaths = 0;
  for (int step = 1;; ++step) {
    ASSERT_EQ(Change(), 0);
    const int made = orders_->checkpoints_made;
    orders_->io_steps = step;
    ++orders_->checkpoints_asked;
    bool died = false;
    ASSERT_TRUE(Eventually([&] {
      died = died || WorkerDied();
      return died || orders_->checkpoints_made > made;
    }));
    orders_->io_steps = 0;
    if (died) {
      ++deaths;
      ++orders_->checkpoints_made;  // Not by the next worker.
      StartWorker();
    }
    ExpectTheLastChange();
    EXPECT_EQ(Sync(), 0);
    if (!died) break;
  }
  printf("%d deaths in a checkpoint\n", deaths);
  EXPECT_GE(deaths, 3);
  Unmount();
}

// As the keeper does it: a mount that was not complete is undone and made anew.
TEST_F(ResumeStepsTest, AMountIsKilledAtEachStep) {
  ASSERT_EQ(Change(), 0);
  int deaths = 0;
  for (int step = 1;; ++step) {
    Kill();
    AbortConnection();
    orders_->io_steps = step;
    PrepareMount();
    BeginWorker();
    const bool ready = AwaitReady();
    orders_->io_steps = 0;
    if (!ready) {
      AwaitDeath();
      ++deaths;
      AbortConnection();
      Mount();
    }
    ExpectTheLastChange();
    if (ready) break;
  }
  printf("%d deaths in a mount\n", deaths);
  EXPECT_GE(deaths, 2);
  Unmount();
}

TEST_F(ResumeStepsTest, AnUnmountIsKilledAtEachStep) {
  int deaths = 0;
  for (int step = 1;; ++step) {
    ASSERT_EQ(Change(), 0);
    ExpectNoHandles();
    orders_->io_steps = step;
    Detach();
    int status = 0;
    waitpid(worker_, &status, 0);
    worker_ = -1;
    orders_->io_steps = 0;
    const bool died = WIFSIGNALED(status);
    if (died) {
      ++deaths;
      unmounted_ = true;
      StartWorker();
      waitpid(worker_, &status, 0);
      worker_ = -1;
      unmounted_ = false;
    }
    EXPECT_EQ(status, 0);
    held_lock_.Reset();
    CheckDiffIsClean();
    Mount();
    ExpectTheLastChange();
    if (!died) break;
  }
  printf("%d deaths in an unmount\n", deaths);
  EXPECT_GE(deaths, 3);
  Unmount();
}

}  // namespace
}  // namespace pbkfs
