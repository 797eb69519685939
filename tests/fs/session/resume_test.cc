// What users of a mount keep when its serving process is replaced.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "fs/overlay/pending_ops.h"
#include "fs/session/request_stats.h"
#include "tests/fs/session/resume_fixture.h"

namespace pbkfs {
namespace {

using testsupport::ResumeTest;

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

TEST_F(ResumeTest, AfterTheUnmountTheLogTellsALengthThatGrewBeforeTheWorkerDied) {
  UniqueFd file(open(At("new").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(pwrite(file.get(), "before", 6, 0), 6);
  ASSERT_EQ(fsync(file.get()), 0);
  ASSERT_EQ(pwrite(file.get(), "after", 5, 6), 5);
  Restart();
  file.Reset();
  Restart();  // A worker that was forked before has the file open.
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

TEST_F(ResumeTest, WaitsOfOperationsForEachOtherGoOn) {
  const PendingOps pending(memory_->pending_counters());
  // Until a look at the size has had to wait for a write that extends the file.
  off_t end = 10 * 8192;
  const auto one_waits = [&] {
    const uint64_t before = pending.Figures().waits;
    return testsupport::Eventually([&] {
      orders_->hold_writes = true;
      end += 8192;
      const pid_t writer = StartClient([this, end] {
        const UniqueFd file(open(At("base/1/1259").c_str(), O_WRONLY));
        return pwrite(file.get(), "new", 3, end) == 3 ? 0 : 1;
      });
      EXPECT_TRUE(testsupport::Eventually([this] { return orders_->held_writes > 0; }));
      const pid_t reader = StartClient([this] {
        const UniqueFd file(open(At("base/1/1259").c_str(), O_RDONLY));
        return testsupport::SizeFromDaemon(file.get()) < 0 ? 1 : 0;
      });
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      orders_->hold_writes = false;
      EXPECT_EQ(WaitForClient(writer), 0);
      EXPECT_EQ(WaitForClient(reader), 0);
      return pending.Figures().waits > before;
    });
  };
  ASSERT_TRUE(one_waits());
  const PendingFigures before = pending.Figures();
  Restart();
  EXPECT_EQ(pending.Figures().waits, before.waits);
  EXPECT_EQ(pending.Figures().wait_nanoseconds, before.wait_nanoseconds);
  ASSERT_TRUE(one_waits());
  EXPECT_GT(pending.Figures().wait_nanoseconds, before.wait_nanoseconds);
}

// A copy into memory that is not there, while the worker dies, would be an error of the request.
TEST_F(ResumeTest, ReceiveBuffersAreInMemoryOnceTheMountIsWrittenTo) {
  constexpr int64_t kThreads = 4;
  const auto resident = [this] {
    std::ifstream file("/proc/" + std::to_string(worker_) + "/smaps");
    int64_t whole = 0;
    bool anonymous = false;
    for (std::string line; std::getline(file, line);) {
      int64_t inode = 0, kib = 0;
      char name = 0;
      const int read = sscanf(line.c_str(), "%*x-%*x %*s %*x %*s %ld %c", &inode, &name);
      if (read > 0) anonymous = read == 1 && inode == 0;
      if (anonymous && sscanf(line.c_str(), "Rss: %ld kB", &kib) == 1) whole += kib / 1028;
    }
    return whole;
  };
  const int64_t before = resident();
  const UniqueFd file(open(At("new").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(pwrite(file.get(), "x", 1, 0), 1);
  // Threads that have not begun yet do it when they begin.
  const auto all_are_resident = [&] { return resident() - before >= kThreads; };
  EXPECT_TRUE(testsupport::Eventually(all_are_resident));
  Restart();
  EXPECT_TRUE(testsupport::Eventually(all_are_resident)) << "the next worker begins with less";
}

TEST_F(ResumeTest, AFailedSyncOfTheLogIsForgottenOnceTheLogIsWrittenAnew) {
  const auto sync_a_new_file = [this](const char* name) {
    return StartClient([this, name] {
      const UniqueFd file(open(At(name).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
      return file.valid() && fsync(file.get()) == 0 ? 0 : errno;
    });
  };
  orders_->fail_log_syncs = true;
  EXPECT_EQ(WaitForClient(sync_a_new_file("a")), EIO);
  EXPECT_TRUE(memory_->sync_failed());
  orders_->fail_log_syncs = false;
  ++orders_->checkpoints_asked;
  ASSERT_TRUE(testsupport::Eventually([this] { return orders_->checkpoints_made > 0; }));
  EXPECT_EQ(WaitForClient(sync_a_new_file("b")), 0);
  Restart();
  EXPECT_EQ(WaitForClient(sync_a_new_file("c")), 0);

  orders_->fail_log_syncs = true;
  EXPECT_EQ(WaitForClient(sync_a_new_file("d")), EIO);
  orders_->fail_log_syncs = false;
  Restart();
  EXPECT_EQ(WaitForClient(sync_a_new_file("e")), EIO) << "nothing has healed it";
}

}  // namespace
}  // namespace pbkfs
