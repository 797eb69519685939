#include "fs/base/memory_limit.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

class MemoryLimitTest : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path full = directory_.path() + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  int64_t Limit() { return MemoryLimitBytes(directory_.path()); }

  testsupport::TemporaryDirectory directory_;
};

TEST_F(MemoryLimitTest, NothingKnownIsZero) { EXPECT_EQ(Limit(), 0); }

TEST_F(MemoryLimitTest, PhysicalMemoryBoundsWhatHasNoCgroup) {
  Write("/proc/meminfo", "MemTotal:        2048 kB\nMemFree: 1 kB\n");
  EXPECT_EQ(Limit(), 2048 * 1024);
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "max\n");
  EXPECT_EQ(Limit(), 2048 * 1024);
}

TEST_F(MemoryLimitTest, TheLeastLimitOnTheWayUpCounts) {
  Write("/proc/meminfo", "MemTotal: 1000000 kB\n");
  Write("/proc/self/cgroup", "0::/system.slice/pbkfsd.service\n");
  Write("/sys/fs/cgroup/system.slice/memory.max", "50000000\n");
  Write("/sys/fs/cgroup/system.slice/pbkfsd.service/memory.max", "max\n");
  EXPECT_EQ(Limit(), 50000000);
  Write("/sys/fs/cgroup/system.slice/pbkfsd.service/memory.max", "40000000\n");
  EXPECT_EQ(Limit(), 40000000);
}

TEST_F(MemoryLimitTest, VersionOneIsReadToo) {
  Write("/proc/meminfo", "MemTotal: 1000000 kB\n");
  Write("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/abc\n1:name=systemd:/a:b\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(Limit(), 1000000 * int64_t{1024});
  Write("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "30000000\n");
  EXPECT_EQ(Limit(), 30000000);
}

TEST_F(MemoryLimitTest, GarbageIsNoLimit) {
  Write("/proc/meminfo", "MemTotal: lots\n");
  Write("/proc/self/cgroup", "0::/a\nnonsense\n0:\n");
  Write("/sys/fs/cgroup/a/memory.max", "-5\n");
  EXPECT_EQ(Limit(), 0);
}

TEST(MemoryShareTest, SharesAreBounded) {
  EXPECT_EQ(MemoryShareBytes(0, 16, 100), 100);
  EXPECT_EQ(MemoryShareBytes(160, 16, 100), 10);
  EXPECT_EQ(MemoryShareBytes(16000, 16, 100), 100);
}

TEST(MemoryLimitOfThisMachineTest, IsKnown) { EXPECT_GT(MemoryLimitBytes(), 16 << 20); }

}  // namespace
}  // namespace pbkfs
