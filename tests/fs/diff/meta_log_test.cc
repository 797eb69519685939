#include "fs/diff/meta_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "fs/base/io.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

TEST(MetaLogTest, ConcurrentAppendsGetConsecutiveSequencesAndSyncsCoverThem) {
  testsupport::TemporaryDirectory directory;
  auto dir = PosixIo().OpenDir(directory.path());
  ASSERT_TRUE(dir.ok());
  auto file = (*dir)->OpenFile("log", O_RDWR | O_CREAT, 0600);
  ASSERT_TRUE(file.ok());
  LogPosition position;
  position.seed = 7;
  MetaLog log(NewLog{*std::move(file), position});
  constexpr int kThreads = 4;
  constexpr int kRecords = 500;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&log, t] {
      for (int i = 0; i < kRecords; ++i) {
        PresentRecord record;
        record.ino = static_cast<uint64_t>(t);
        record.first = i;
        record.count = 1;
        const auto sequence = log.Append(record);
        ASSERT_TRUE(sequence.ok());
        if (i % 50 == 0) {
          ASSERT_TRUE(log.Sync(*sequence).ok());
          ASSERT_TRUE(log.IsDurable(*sequence));
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(log.last_sequence(), uint64_t{kThreads * kRecords});

  auto again = (*dir)->OpenFile("log", O_RDONLY, 0);
  std::vector<uint8_t> bytes(static_cast<size_t>(log.bytes()));
  ASSERT_EQ(*(*again)->Read(0, absl::MakeSpan(bytes)), bytes.size());
  absl::Span<const uint8_t> rest(bytes);
  uint64_t expected = 1;
  while (!rest.empty()) {
    const auto record = DecodeRecord(rest, 7);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(record->sequence, expected++);
    rest.remove_prefix(record->bytes);
  }
}

}  // namespace
}  // namespace pbkfs
