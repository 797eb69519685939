// What users of a mount keep when its serving process is replaced.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/str_cat.h"
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

}  // namespace
}  // namespace pbkfs
