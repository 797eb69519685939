// Order of requests on a real mount: an Io that is held shows who waits for whom.
//
// Two things of the kernel shape these tests. Reads go through O_DIRECT, because the page cache
// answers others without asking us. And the kernel holds a file's inode lock during a write, a
// truncation or an fsync, so that two of them never reach us at once from system calls; their order
// among each other is tested where no kernel stands in between (tests/fs/overlay).
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <random>
#include <thread>

#include "tests/fs/session/mounted_overlay.h"
#include "tests/support/gate.h"

namespace pbkfs {
namespace {

using testsupport::AlignedBuffer;
using testsupport::Eventually;
using testsupport::Gate;
using testsupport::MountedOverlay;
using testsupport::OpenFile;
using testsupport::Page;
using testsupport::SizeFromDaemon;

constexpr int64_t kB = kBlockSize;

class PendingOnMount : public testsupport::MountTest {
 protected:
  void SetUp() override {
    MountTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    mount_ = std::make_unique<MountedOverlay>(std::map<std::string, testsupport::MemoryTree::Entry>{
        {"rel", {S_IFREG | 0600, Page(1, 8 * kB)}}, {"other", {S_IFREG | 0600, Page(2, 8 * kB)}}});
    file_ = OpenFile(mount_->Path("rel"), O_RDWR | O_DIRECT);
    // Every block is in the data file, so that it is that file which is read and written below.
    ASSERT_TRUE(Write(file_.get(), 0, Page(3, 8 * kB)));
  }

  static bool Write(int fd, int64_t offset, const std::string& bytes) {
    AlignedBuffer buffer(bytes);
    return pwrite(fd, buffer.data(), buffer.size(), offset) == static_cast<ssize_t>(buffer.size());
  }
  static std::string Read(int fd, int64_t offset, size_t size) {
    AlignedBuffer buffer(size);
    const ssize_t count = pread(fd, buffer.data(), size, offset);
    return count < 0 ? strerror(errno) : buffer.text().substr(0, static_cast<size_t>(count));
  }
  std::string DataName(const char* name) { return DataFileName(mount_->fs().Ino(name)); }
  template <typename Call>
  static auto Async(Call call) {
    return std::async(std::launch::async, call);
  }
  template <typename T>
  static bool Done(const std::future<T>& future) {
    return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }

  std::unique_ptr<MountedOverlay> mount_;
  UniqueFd file_;
};

TEST_F(PendingOnMount, AReadAndAnFstatThatArriveAfterAWriteWaitForItAndSeeIt) {
  const std::string bytes = Page(4, 2 * kB);
  const uint64_t waits = mount_->overlay().pending().waits;
  std::future<bool> write1;
  std::future<std::string> read;
  std::future<int64_t> size;
  Gate gate("write", DataName("rel"));
  mount_->io().set_hook(Gate::HookOf({&gate}));
  write1 = Async([&] { return Write(file_.get(), 7 * kB, bytes); });  // Extends the file, too.
  gate.AwaitCall();
  read = Async([&] { return Read(file_.get(), 7 * kB, kB); });
  size = Async([&] { return SizeFromDaemon(file_.get()); });
  ASSERT_TRUE(Eventually([&] { return mount_->overlay().pending().operations == 3; }));
  EXPECT_FALSE(Done(write1));
  EXPECT_FALSE(Done(read));
  EXPECT_FALSE(Done(size));
  gate.Open();
  EXPECT_TRUE(write1.get());
  EXPECT_EQ(read.get(), bytes.substr(0, kB));
  EXPECT_EQ(size.get(), 9 * kB);
  EXPECT_EQ(mount_->overlay().pending().waits, waits + 2);
}

TEST_F(PendingOnMount, AReadThatArrivedBeforeAWriteReturnsWhileThatWriteIsHeld) {
  std::future<std::string> read;
  std::future<bool> write2;
  Gate read_gate("read", DataName("rel"));
  Gate write_gate("write", DataName("rel"));
  mount_->io().set_hook(Gate::HookOf({&read_gate, &write_gate}));
  read = Async([&] { return Read(file_.get(), 0, kB); });
  read_gate.AwaitCall();
  write2 = Async([&] { return Write(file_.get(), 0, Page(5)); });
  write_gate.AwaitCall();  // It does not wait for the read.
  read_gate.Open();
  EXPECT_EQ(read.get(), Page(3, 8 * kB).substr(0, kB));
  EXPECT_FALSE(Done(write2));
  write_gate.Open();
  EXPECT_TRUE(write2.get());
  EXPECT_EQ(Read(file_.get(), 0, kB), Page(5));
}

TEST_F(PendingOnMount, AReadBetweenTwoWritesSeesTheFirst) {
  std::future<bool> write1;
  std::future<std::string> read;
  std::future<bool> write2;
  Gate read_gate("read", DataName("rel"));
  Gate write_gate("write", DataName("rel"));
  mount_->io().set_hook(Gate::HookOf({&write_gate, &read_gate}));
  write1 = Async([&] { return Write(file_.get(), 0, Page(6)); });
  write_gate.AwaitCall();
  read = Async([&] { return Read(file_.get(), 0, kB); });
  ASSERT_TRUE(Eventually([&] { return mount_->overlay().pending().operations == 2; }));
  write_gate.Open();
  EXPECT_TRUE(write1.get());
  read_gate.AwaitCall();
  Gate second_gate("write", DataName("rel"));
  mount_->io().set_hook(Gate::HookOf({&second_gate}));
  write2 = Async([&] { return Write(file_.get(), 0, Page(7)); });
  second_gate.AwaitCall();
  read_gate.Open();
  EXPECT_EQ(read.get(), Page(6));
  EXPECT_FALSE(Done(write2));
  second_gate.Open();
  EXPECT_TRUE(write2.get());
}

TEST_F(PendingOnMount, DisjointRangesAndOtherInodesGoOn) {
  std::future<bool> write1;
  Gate gate("write", DataName("rel"));
  mount_->io().set_hook(Gate::HookOf({&gate}));
  write1 = Async([&] { return Write(file_.get(), 0, Page(6)); });
  gate.AwaitCall();
  EXPECT_EQ(Read(file_.get(), 3 * kB, kB), Page(3, 8 * kB).substr(3 * kB, kB));
  EXPECT_EQ(SizeFromDaemon(file_.get()), 8 * kB) << "the write does not change the size";
  const UniqueFd other = OpenFile(mount_->Path("other"), O_RDWR | O_DIRECT);
  EXPECT_TRUE(Write(other.get(), 8 * kB, Page(7)));
  EXPECT_EQ(Read(other.get(), 8 * kB, kB), Page(7));
  EXPECT_EQ(fsync(other.get()), 0);
  EXPECT_EQ(ftruncate(other.get(), kB), 0);
  const UniqueFd created = OpenFile(mount_->Path("new"), O_RDWR | O_CREAT | O_EXCL);
  EXPECT_EQ(rename(mount_->Path("new").c_str(), mount_->Path("renamed").c_str()), 0);
  EXPECT_EQ(unlink(mount_->Path("renamed").c_str()), 0);
  EXPECT_FALSE(Done(write1));
  gate.Open();
  EXPECT_TRUE(write1.get());
}

TEST_F(PendingOnMount, ASlowSyncDelaysNoWriteAndNoReadOfTheFile) {
  const UniqueFd other = OpenFile(mount_->Path("other"), O_RDWR | O_DIRECT);
  ASSERT_TRUE(Write(other.get(), 0, Page(8)));
  std::future<int> sync;
  Gate gate("sync", DataName("other"));
  mount_->io().set_hook(Gate::HookOf({&gate}));
  sync = Async([&] { return fsync(other.get()); });
  gate.AwaitCall();
  EXPECT_EQ(Read(other.get(), 0, kB), Page(8));
  // A write through this mount would wait for the kernel's inode lock, which the fsync holds. The
  // daemon itself does not make it wait.
  EXPECT_TRUE(mount_->fs().Write("other", kB, Page(9)).ok());
  EXPECT_FALSE(Done(sync));
  gate.Open();
  EXPECT_EQ(sync.get(), 0);
}

// Sizes of one file that many threads change. Every operation has a size of its own, so that an
// fstat says which operation it saw; that one must not have ended before the last operation of the
// thread itself began.
class SizeHistory {
 public:
  struct Operation {
    int64_t size = 0;
    uint64_t began = 0;
  };

  explicit SizeHistory(size_t operations) : ended_(operations + 1) {}

  Operation Begin() {
    const int64_t size = next_.fetch_add(1) * kStride;
    return {size, clock_.fetch_add(1)};
  }
  void End(const Operation& operation) { EndOf(operation.size) = clock_.fetch_add(1); }
  // Whether there are operations left to begin, with room for one more of each thread.
  bool Goes(const Operation& operation, int threads) const {
    return operation.size / kStride + threads < static_cast<int64_t>(ended_.size());
  }

  // Whether a thread may see `size` after its last operation `own`. An extension that finds the
  // file longer changes nothing.
  bool MaySee(const Operation& own, int64_t size, bool own_extends) {
    if (size == own.size) return true;
    if (size <= 0 || size % kStride != 0) return false;
    const uint64_t ended = EndOf(size);
    return ended == 0 || ended > own.began || (own_extends && size > own.size);
  }

 private:
  static constexpr int64_t kStride = 5;  // So that sizes cross blocks.
  std::atomic<uint64_t>& EndOf(int64_t size) { return ended_[static_cast<size_t>(size / kStride)]; }

  std::atomic<int64_t> next_{1};
  std::atomic<uint64_t> clock_{1};
  std::vector<std::atomic<uint64_t>> ended_;  // By number; 0 = not yet.
};

TEST_F(PendingOnMount, NoThreadSeesASizeOlderThanItsOwnLastOperation) {
  constexpr int kThreads = 8;
  constexpr size_t kOperations = 4000;
  ASSERT_EQ(truncate(mount_->Path("rel").c_str(), 0), 0);
  SizeHistory history(kOperations);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937 random(static_cast<unsigned>(thread));
      const UniqueFd fd = OpenFile(mount_->Path("rel"), O_RDWR);
      for (auto own = history.Begin(); history.Goes(own, kThreads); own = history.Begin()) {
        const bool extends = random() % 2 == 0;
        const bool done = extends ? pwrite(fd.get(), "x", 1, own.size - 1) == 1
                                  : ftruncate(fd.get(), own.size) == 0;
        history.End(own);
        struct stat attributes;
        const bool cached = random() % 2 == 0 && fstat(fd.get(), &attributes) == 0;
        const int64_t seen =
            cached ? static_cast<int64_t>(attributes.st_size) : SizeFromDaemon(fd.get());
        if (!done || !history.MaySee(own, seen, extends)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(PendingOnMount, NoThreadSeesAFileShorterThanItsOwnExtension) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 300;
  std::atomic<int64_t> next_end = 9 * kB;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      const UniqueFd fd = OpenFile(mount_->Path("rel"), O_RDWR | (thread % 2 == 0 ? O_DIRECT : 0));
      AlignedBuffer page(Page(thread));
      for (int round = 0; round < kRounds; ++round) {
        const int64_t end = next_end.fetch_add(kB);
        if (pwrite(fd.get(), page.data(), page.size(), end - kB) != kB) ++wrong;
        struct stat attributes;
        if (fstat(fd.get(), &attributes) != 0 || attributes.st_size < end) ++wrong;
        if (SizeFromDaemon(fd.get()) < end) ++wrong;
        if (Read(fd.get(), end - kB, kB) != Page(thread)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(SizeFromDaemon(file_.get()), next_end.load() - kB);
}

}  // namespace
}  // namespace pbkfs
