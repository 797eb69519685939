// What programs expect of files, through the kernel, on a real mount.
#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <set>
#include <thread>

#include "tests/fs/session/mounted_overlay.h"

namespace pbkfs {
namespace {

using testsupport::AlignedBuffer;
using testsupport::Eventually;
using testsupport::InChild;
using testsupport::MountedOverlay;
using testsupport::OpenFile;
using testsupport::Page;

constexpr int64_t kB = kBlockSize;

std::map<std::string, testsupport::MemoryTree::Entry> Lower() {
  return {{"rel", {S_IFREG | 0600, Page(1, 8 * kB)}},
          {"dir/a", {S_IFREG | 0600, Page(2)}},
          {"dir/b", {S_IFREG | 0600, Page(3)}},
          {"link", {S_IFLNK | 0777, "dir/a"}}};
}

std::string ReadAll(int fd) {
  std::string bytes(1 << 20, '?');
  const ssize_t count = pread(fd, bytes.data(), bytes.size(), 0);
  bytes.resize(count < 0 ? 0 : static_cast<size_t>(count));
  return bytes;
}

class MountSemantics : public testsupport::MountTest {
 protected:
  void SetUp() override {
    MountTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    mount_ = std::make_unique<MountedOverlay>(Lower());
  }
  std::string Path(const std::string& name) const { return mount_->Path(name); }
  std::string ReadPath(const std::string& name) {
    return ReadAll(OpenFile(Path(name), O_RDONLY).get());
  }
  uint64_t Requests(const char* operation) {
    return mount_->session().Figures().requests[operation];
  }

  std::unique_ptr<MountedOverlay> mount_;
};

TEST_F(MountSemantics, BytesStoredThroughASharedMappingReachTheFile) {
  const std::string path = Path("rel");
  ASSERT_EQ(InChild([&path] {
              const int fd = open(path.c_str(), O_RDWR);
              void* map = mmap(nullptr, 8 * kB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
              if (map == MAP_FAILED) return 1;
              auto* bytes = static_cast<char*>(map);
              if (bytes[5] != Page(1)[5]) return 2;
              memset(bytes + 2 * kB, 'x', kB);
              if (msync(map, 8 * kB, MS_SYNC) != 0) return 3;
              // What others write shows in the mapping.
              if (pwrite(fd, "pwritten", 8, 5 * kB) != 8) return 4;
              if (memcmp(bytes + 5 * kB, "pwritten", 8) != 0) return 5;
              return munmap(map, 8 * kB) == 0 && close(fd) == 0 ? 0 : 6;
            }),
            0);
  std::string expected = Page(1, 8 * kB);
  expected.replace(2 * kB, kB, std::string(kB, 'x'));
  expected.replace(5 * kB, 8, "pwritten");
  EXPECT_EQ(ReadPath("rel"), expected);
  mount_->DieAndRemount();
  EXPECT_EQ(ReadPath("rel"), expected) << "msync was answered";
}

TEST_F(MountSemantics, APrivateMappingChangesNothingAndReadsTheFile) {
  const std::string path = Path("rel");
  const uint64_t writes = Requests("write");
  ASSERT_EQ(InChild([&path] {
              const int fd = open(path.c_str(), O_RDONLY);
              void* map = mmap(nullptr, 8 * kB, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
              if (map == MAP_FAILED) return 1;
              auto* bytes = static_cast<char*>(map);
              if (bytes[8 * kB - 1] != Page(1, 8 * kB)[8 * kB - 1]) return 2;
              memset(bytes, 'x', 8 * kB);
              return munmap(map, 8 * kB) == 0 ? 0 : 3;
            }),
            0);
  EXPECT_EQ(Requests("write"), writes);
  EXPECT_EQ(ReadPath("rel"), Page(1, 8 * kB));
}

TEST_F(MountSemantics, DirectAndBufferedAccessSeeTheSameBytes) {
  const UniqueFd direct = OpenFile(Path("rel"), O_RDWR | O_DIRECT);
  const UniqueFd buffered = OpenFile(Path("rel"), O_RDWR);
  EXPECT_EQ(ReadAll(buffered.get()), Page(1, 8 * kB));  // Now in the page cache.
  AlignedBuffer page(Page(4));
  ASSERT_EQ(pwrite(direct.get(), page.data(), page.size(), kB), kB);
  std::string expected = Page(1, 8 * kB);
  expected.replace(kB, kB, Page(4));
  EXPECT_EQ(ReadAll(buffered.get()), expected);
  ASSERT_EQ(pwrite(buffered.get(), "buffered", 8, kB + 100), 8);
  expected.replace(kB + 100, 8, "buffered");
  AlignedBuffer whole(8 * kB);
  ASSERT_EQ(pread(direct.get(), whole.data(), whole.size(), 0), 8 * kB);
  EXPECT_EQ(whole.text(), expected);
}

TEST_F(MountSemantics, AppendsOfSeveralDescriptorsLandOnceEachAndWhole) {
  constexpr int kThreads = 4;
  constexpr int kRecords = 200;
  constexpr size_t kRecord = 37;
  ASSERT_EQ(truncate(Path("rel").c_str(), 0), 0);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      const UniqueFd fd = OpenFile(Path("rel"), O_WRONLY | O_APPEND);
      for (int i = 0; i < kRecords; ++i) {
        std::string record = std::to_string(thread) + ":" + std::to_string(i);
        record.resize(kRecord, '.');
        EXPECT_EQ(write(fd.get(), record.data(), record.size()), static_cast<ssize_t>(kRecord));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string bytes = ReadPath("rel");
  ASSERT_EQ(bytes.size(), kThreads * kRecords * kRecord);
  std::set<std::string> records;
  std::map<char, int> last;
  for (size_t at = 0; at < bytes.size(); at += kRecord) {
    const std::string record = bytes.substr(at, kRecord);
    EXPECT_TRUE(records.insert(record).second) << record;
    const int number = atoi(record.c_str() + 2);
    EXPECT_EQ(number, last[record[0]]++) << "records of one writer are in its order";
  }
}

TEST_F(MountSemantics, AnUnlinkedFileLivesWhileItIsOpenAndLeavesNothing) {
  OverlayOptions options;
  options.background_interval = std::chrono::milliseconds(10);
  mount_ = std::make_unique<MountedOverlay>(Lower(), options);
  const std::filesystem::path data = mount_->fs().diff_path() + "/data";
  UniqueFd fd = OpenFile(Path("temporary"), O_RDWR | O_CREAT | O_EXCL);
  ASSERT_EQ(pwrite(fd.get(), "before", 6, 0), 6);
  ASSERT_EQ(unlink(Path("temporary").c_str()), 0);
  struct stat attributes;
  ASSERT_EQ(fstat(fd.get(), &attributes), 0);
  EXPECT_EQ(attributes.st_nlink, 0u);
  ASSERT_EQ(pwrite(fd.get(), "after", 5, 6), 5);
  EXPECT_EQ(ReadAll(fd.get()), "beforeafter");
  EXPECT_EQ(fsync(fd.get()), 0);
  ASSERT_EQ(ftruncate(fd.get(), 2), 0);
  EXPECT_EQ(ReadAll(fd.get()), "be");
  EXPECT_EQ(access(Path("temporary").c_str(), F_OK), -1);
  // A new file of that name is another file.
  const UniqueFd second = OpenFile(Path("temporary"), O_RDWR | O_CREAT | O_EXCL);
  EXPECT_EQ(ReadAll(second.get()), "");
  EXPECT_FALSE(std::filesystem::is_empty(data));
  fd.Reset();
  EXPECT_TRUE(Eventually([&] { return std::filesystem::is_empty(data); }));
}

TEST_F(MountSemantics, LocksAreTheKernelsOwn) {
  const UniqueFd one = OpenFile(Path("rel"), O_RDWR);
  const UniqueFd two = OpenFile(Path("rel"), O_RDWR);
  ASSERT_EQ(flock(one.get(), LOCK_EX | LOCK_NB), 0);
  EXPECT_EQ(flock(two.get(), LOCK_EX | LOCK_NB), -1);
  EXPECT_EQ(errno, EWOULDBLOCK);
  EXPECT_EQ(flock(one.get(), LOCK_UN), 0);
  EXPECT_EQ(flock(two.get(), LOCK_EX | LOCK_NB), 0);

  struct flock range = {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = 100;
  range.l_len = 50;
  ASSERT_EQ(fcntl(one.get(), F_OFD_SETLK, &range), 0);
  struct flock overlapping = range;
  overlapping.l_start = 120;
  EXPECT_EQ(fcntl(two.get(), F_OFD_SETLK, &overlapping), -1);
  EXPECT_EQ(errno, EAGAIN);
  overlapping.l_start = 150;
  EXPECT_EQ(fcntl(two.get(), F_OFD_SETLK, &overlapping), 0);
  const std::string path = Path("rel");
  EXPECT_EQ(InChild([&path] {  // Locks of processes.
              const int fd = open(path.c_str(), O_RDWR);
              struct flock mine = {};
              mine.l_type = F_WRLCK;
              mine.l_whence = SEEK_SET;
              mine.l_start = 100;
              mine.l_len = 1;
              return fcntl(fd, F_SETLK, &mine) == -1 && errno == EAGAIN ? 0 : 1;
            }),
            0);
  for (const auto& [operation, errors] : mount_->session().Figures().errors) {
    ADD_FAILURE() << operation.first << " answered errno " << operation.second;
  }
}

TEST_F(MountSemantics, AReadOnlyMountAnswersErofs) {
  OverlayOptions options;
  options.read_only = true;
  mount_ = std::make_unique<MountedOverlay>(Lower(), options);
  const std::string rel = Path("rel");
  const auto refused = [](int result) { return result == -1 && errno == EROFS; };
  EXPECT_TRUE(refused(open(rel.c_str(), O_RDWR)));
  EXPECT_TRUE(refused(open(Path("new").c_str(), O_RDWR | O_CREAT, 0600)));
  EXPECT_TRUE(refused(truncate(rel.c_str(), 0)));
  EXPECT_TRUE(refused(chmod(rel.c_str(), 0640)));
  EXPECT_TRUE(refused(chown(rel.c_str(), 1, 1)));
  EXPECT_TRUE(refused(utimensat(AT_FDCWD, rel.c_str(), nullptr, 0)));
  EXPECT_TRUE(refused(unlink(rel.c_str())));
  EXPECT_TRUE(refused(rename(rel.c_str(), Path("x").c_str())));
  EXPECT_TRUE(refused(link(rel.c_str(), Path("x").c_str())));
  EXPECT_TRUE(refused(symlink("x", Path("x").c_str())));
  EXPECT_TRUE(refused(mkdir(Path("x").c_str(), 0700)));
  EXPECT_TRUE(refused(rmdir(Path("dir").c_str())));
  EXPECT_EQ(ReadPath("rel"), Page(1, 8 * kB));
}

TEST_F(MountSemantics, AListingHasEveryNameThatWasThereThroughoutExactlyOnce) {
  constexpr int kStable = 600;  // More than one buffer of the kernel holds.
  std::set<std::string> stable;
  ASSERT_EQ(mkdir(Path("many").c_str(), 0700), 0);
  for (int i = 0; i < kStable; ++i) {
    const std::string name = "stable-" + std::to_string(i) + std::string(40, '_');
    stable.insert(name);
    OpenFile(Path("many/" + name), O_WRONLY | O_CREAT | O_EXCL);
  }
  std::atomic<bool> stop = false;
  std::vector<std::thread> changers;
  for (int thread = 0; thread < 3; ++thread) {
    changers.emplace_back([&, thread] {
      for (int i = 0; !stop; ++i) {
        const std::string name = Path("many/t" + std::to_string(thread) + "-" + std::to_string(i));
        const std::string moved = name + "-moved";
        OpenFile(name, O_WRONLY | O_CREAT | O_EXCL);
        EXPECT_EQ(rename(name.c_str(), moved.c_str()), 0);
        if (i % 3 != 0) {
          EXPECT_EQ(unlink(moved.c_str()), 0);
        }
        if (i > 2000) break;
      }
    });
  }
  for (int round = 0; round < 20; ++round) {
    std::map<std::string, int> seen;
    DIR* directory = opendir(Path("many").c_str());
    ASSERT_NE(directory, nullptr);
    while (const dirent* entry = readdir(directory)) ++seen[entry->d_name];
    closedir(directory);
    for (const std::string& name : stable) ASSERT_EQ(seen[name], 1) << name;
    for (const auto& [name, count] : seen) ASSERT_EQ(count, 1) << name;
  }
  stop = true;
  for (std::thread& thread : changers) thread.join();
}

TEST_F(MountSemantics, ARenameOverAnOpenFileLeavesItsReadersWithTheOldOne) {
  const UniqueFd old = OpenFile(Path("dir/a"), O_RDWR);
  const UniqueFd source = OpenFile(Path("dir/b"), O_RDWR);
  ASSERT_EQ(rename(Path("dir/b").c_str(), Path("dir/a").c_str()), 0);
  EXPECT_EQ(ReadAll(old.get()), Page(2));
  ASSERT_EQ(pwrite(old.get(), "old", 3, 0), 3);
  ASSERT_EQ(pwrite(source.get(), "new", 3, 0), 3);
  EXPECT_EQ(ReadAll(old.get()), "old" + Page(2).substr(3));
  EXPECT_EQ(ReadPath("dir/a"), "new" + Page(3).substr(3));
  EXPECT_EQ(ReadPath("link"), "new" + Page(3).substr(3)) << "the symlink names the path";
  EXPECT_EQ(access(Path("dir/b").c_str(), F_OK), -1);
  struct stat attributes;
  ASSERT_EQ(fstat(old.get(), &attributes), 0);
  EXPECT_EQ(attributes.st_nlink, 0u);
}

TEST_F(MountSemantics, ADirectoryIsRenamedUnderOpenFiles) {
  const UniqueFd file = OpenFile(Path("dir/a"), O_RDWR);
  ASSERT_EQ(rename(Path("dir").c_str(), Path("moved").c_str()), 0);
  ASSERT_EQ(pwrite(file.get(), "moved", 5, 0), 5);
  EXPECT_EQ(ReadPath("moved/a"), "moved" + Page(2).substr(5));
  EXPECT_EQ(mkdir(Path("dir").c_str(), 0700), 0) << "the old name is free";
  EXPECT_EQ(access(Path("dir/a").c_str(), F_OK), -1);
}

TEST_F(MountSemantics, TruncationByOpenArrivesAsAChangeOfSize) {
  const uint64_t changes = Requests("setattr");
  const UniqueFd file = OpenFile(Path("rel"), O_RDWR | O_TRUNC);
  // A request is counted when its answer is on the way already.
  EXPECT_TRUE(Eventually([&] { return Requests("setattr") == changes + 1; }));
  EXPECT_EQ(ReadAll(file.get()), "");
  ASSERT_EQ(ftruncate(file.get(), 3 * kB), 0);
  EXPECT_EQ(ReadAll(file.get()), std::string(3 * kB, '\0'));
}

TEST_F(MountSemantics, ANameThatIsTooLongIsSaidToBe) {
  const std::string longest = Path(std::string(255, 'n'));
  const std::string too_long = Path(std::string(256, 'n'));
  struct stat attributes;
  EXPECT_EQ(stat(too_long.c_str(), &attributes), -1);
  EXPECT_EQ(errno, ENAMETOOLONG);
  EXPECT_EQ(unlink(too_long.c_str()), -1);
  EXPECT_EQ(errno, ENAMETOOLONG);
  EXPECT_EQ(mkdir(too_long.c_str(), 0700), -1);
  EXPECT_EQ(errno, ENAMETOOLONG);
  EXPECT_EQ(stat(longest.c_str(), &attributes), -1);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(mkdir(longest.c_str(), 0700), 0);
}

TEST_F(MountSemantics, WhatIsNotSupportedFailsCleanly) {
  const UniqueFd file = OpenFile(Path("rel"), O_RDWR);
  EXPECT_EQ(fallocate(file.get(), FALLOC_FL_COLLAPSE_RANGE, 0, kB), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
  EXPECT_EQ(
      renameat2(AT_FDCWD, Path("rel").c_str(), AT_FDCWD, Path("dir/a").c_str(), RENAME_EXCHANGE),
      -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(
      renameat2(AT_FDCWD, Path("rel").c_str(), AT_FDCWD, Path("dir/a").c_str(), RENAME_NOREPLACE),
      -1);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(ReadPath("rel"), Page(1, 8 * kB));
}

}  // namespace
}  // namespace pbkfs
