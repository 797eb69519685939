#include "fs/base/crc32c.h"

#include <gtest/gtest.h>

#include <string>

namespace pbkfs {
namespace {

TEST(Crc32cTest, GivesThePublishedCheckValue) { EXPECT_EQ(Crc32c("123456789", 9), 0xE3069283u); }

TEST(Crc32cTest, ContinuesFromAnEarlierPart) {
  const std::string text(1000, 'x');
  for (const size_t split : {0, 1, 7, 8, 9, 999, 1000}) {
    const uint32_t first = Crc32c(text.data(), split);
    EXPECT_EQ(Crc32c(first, text.data() + split, text.size() - split),
              Crc32c(text.data(), text.size()));
  }
}

}  // namespace
}  // namespace pbkfs
