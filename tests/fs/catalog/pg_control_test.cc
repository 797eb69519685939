#include "fs/catalog/pg_control.h"

#include <cstring>
#include <string>

#include "fs/base/bytes.h"
#include "fs/base/crc32c.h"
#include "fs/base/status.h"
#include "gtest/gtest.h"

namespace pbkfs {
namespace {

// A pg_control whose struct ends with the CRC at `crc_offset`.
std::string MakeControl(uint32_t version, size_t crc_offset) {
  std::string bytes(8192, '\0');
  const auto put = [&bytes](size_t offset, uint32_t value) {
    StoreLittleEndian<uint32_t>(value, bytes.data() + offset);
  };
  StoreLittleEndian<uint64_t>(7000000000000000001, bytes.data());
  put(8, version);
  put(172, 2);
  put(180, 250);
  put(184, 20);
  put(188, 12);
  put(192, 5);
  put(196, 128);
  put(204, 8);
  const double constant = 1234567.0;
  memcpy(bytes.data() + 208, &constant, sizeof(constant));
  put(216, 8192);
  put(224, 8192);
  put(228, 64 << 20);
  put(crc_offset, Crc32c(bytes.data(), crc_offset));
  return bytes;
}

TEST(PgControl, ReadsEveryVersionFromTwelveToEighteen) {
  for (const auto& [version, crc_offset] :
       {std::pair(1201u, 288), {1300u, 288}, {1700u, 288}, {1800u, 292}}) {
    const absl::StatusOr<PgControl> control =
        ParsePgControl(MakeControl(version, static_cast<size_t>(crc_offset)));
    ASSERT_TRUE(control.ok()) << control.status();
    EXPECT_EQ(control->wal_level, WalLevel::kLogical);
    EXPECT_EQ(control->max_connections, 250);
    EXPECT_EQ(control->max_worker_processes, 20);
    EXPECT_EQ(control->max_wal_senders, 12);
    EXPECT_EQ(control->max_prepared_transactions, 5);
    EXPECT_EQ(control->max_locks_per_transaction, 128);
    EXPECT_EQ(control->wal_segment_bytes, 64u << 20);
  }
}

TEST(PgControl, RefusesDamageAndOtherLayouts) {
  EXPECT_EQ(ReasonOf(ParsePgControl("short").status()), reason::kCatalogCorrupt);
  EXPECT_EQ(ReasonOf(ParsePgControl(MakeControl(1100, 288)).status()), reason::kUnsupportedFormat);
  const std::string good = MakeControl(1300, 288);
  for (size_t offset = 0; offset < 292; ++offset) {
    std::string bytes = good;
    bytes[offset] = static_cast<char>(bytes[offset] ^ 0x10);
    EXPECT_FALSE(ParsePgControl(bytes).ok()) << "damage at " << offset << " was not seen";
  }
}

}  // namespace
}  // namespace pbkfs
