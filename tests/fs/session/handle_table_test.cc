#include "fs/session/handle_table.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "fs/session/session_memory.h"

namespace pbkfs {
namespace {

class HandleTableTest : public ::testing::Test {
 protected:
  HandleTableTest() : memory_(*SessionMemory::Create(7)) {}
  std::unique_ptr<SessionMemory> memory_;
};

TEST_F(HandleTableTest, OpeningAndReleasingTwiceIsDoneOnce) {
  HandleTable table(memory_->handles());
  EXPECT_EQ(table.Add(10, 100), HandleTable::Added::kNew);
  EXPECT_EQ(table.Add(10, 100), HandleTable::Added::kKnown);
  EXPECT_EQ(table.Remove(10), 100u);
  EXPECT_EQ(table.Remove(10), std::nullopt);
}

TEST_F(HandleTableTest, AnotherProcessFindsTheHandles) {
  {
    HandleTable table(memory_->handles());
    for (uint64_t handle = 2; handle <= 2000; handle += 2) table.Add(handle, handle * 3);
    for (uint64_t handle = 2; handle <= 1000; handle += 2) table.Remove(handle);
  }
  const auto mapped = SessionMemory::Map(UniqueFd(dup(memory_->descriptor())));
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_EQ((*mapped)->session_nonce(), 7u);
  HandleTable table((*mapped)->handles());
  EXPECT_EQ(table.Inodes().size(), 500u);
  EXPECT_EQ(table.Remove(1000), std::nullopt);
  EXPECT_EQ(table.Remove(1002), 3006u);
}

TEST_F(HandleTableTest, OnlyHandlesThatNobodyHasAreDroppedAfterATakeover) {
  {
    HandleTable table(memory_->handles());
    table.Add(2, 100);
    table.MarkReplied(2);
    table.Add(4, 101);  // Its request is sent again.
    table.Add(6, 102);  // Its client was killed.
  }
  HandleTable table(memory_->handles());
  EXPECT_EQ(table.Add(4, 101), HandleTable::Added::kKnown);
  EXPECT_EQ(table.DropUnclaimed(), std::vector<uint64_t>{102});
  std::vector<uint64_t> left = table.Inodes();
  std::sort(left.begin(), left.end());
  EXPECT_EQ(left, (std::vector<uint64_t>{100, 101}));
}

TEST(SessionMemoryTest, AMemoryOfAnotherVersionIsRefused) {
  const auto memory = *SessionMemory::Create(7);
  const uint32_t version = SessionMemory::kVersion + 1;
  ASSERT_EQ(pwrite(memory->descriptor(), &version, sizeof(version), 8), 4);
  const auto mapped = SessionMemory::Map(UniqueFd(dup(memory->descriptor())));
  EXPECT_TRUE(absl::IsUnimplemented(mapped.status())) << mapped.status();
}

}  // namespace
}  // namespace pbkfs
