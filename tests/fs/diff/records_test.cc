#include "fs/diff/records.h"

#include <gtest/gtest.h>

#include <random>

namespace pbkfs {
namespace {

absl::Span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

RenameRecord ExampleRename() {
  RenameRecord record;
  record.request = {1, 2, 3};
  record.ino = 4;
  record.parent = 5;
  record.name = "old";
  record.new_parent = 6;
  record.new_name = std::string("new\0name", 8);
  record.replaced = 7;
  record.time = -8;
  return record;
}

TEST(RecordsTest, ARecordComesBackAsItWasWritten) {
  const std::string bytes = EncodeRecord(ExampleRename(), 42, 1000, 99);
  EXPECT_EQ(bytes.size() % 8, 0u);
  const auto decoded = DecodeRecord(Bytes(bytes), 99);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->sequence, 42u);
  EXPECT_EQ(decoded->durable_to, 1000u);
  EXPECT_EQ(decoded->bytes, bytes.size());
  const auto* rename = std::get_if<RenameRecord>(&decoded->record);
  ASSERT_NE(rename, nullptr);
  EXPECT_EQ(rename->request, (RequestId{1, 2, 3}));
  EXPECT_EQ(rename->new_name, ExampleRename().new_name);
  EXPECT_EQ(rename->time, -8);
}

TEST(RecordsTest, ARecordOfAnotherEpochDoesNotValidate) {
  const std::string bytes = EncodeRecord(ExampleRename(), 42, 0, 99);
  EXPECT_EQ(DecodeRecord(Bytes(bytes), 98).status().code(), absl::StatusCode::kDataLoss);
}

TEST(RecordsTest, AnyFlippedBitIsFound) {
  const std::string good = EncodeRecord(ExampleRename(), 42, 0, 99);
  const size_t unpadded = good.size() - 7;
  for (size_t bit = 0; bit < unpadded * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(DecodeRecord(Bytes(bad), 99).ok()) << "bit " << bit;
  }
}

TEST(RecordsTest, EveryTruncationIsFound) {
  const std::string good = EncodeRecord(ExampleRename(), 42, 0, 99);
  for (size_t size = 0; size + 8 < good.size(); ++size) {
    EXPECT_FALSE(DecodeRecord(Bytes(good.substr(0, size)), 99).ok()) << "size " << size;
  }
}

TEST(RecordsTest, RandomBytesNeverDecode) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes(8 * (1 + random() % 20), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    if (random() % 2 == 0) bytes[1] = bytes[2] = bytes[3] = 0;  // A plausible length.
    EXPECT_FALSE(DecodeRecord(Bytes(bytes), 99).ok());
  }
}

TEST(RecordsTest, ZerosAreTheEndOfALog) {
  EXPECT_EQ(DecodeRecord(Bytes(std::string(64, '\0')), 99).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(DecodeRecord({}, 99).status().code(), absl::StatusCode::kNotFound);
}

TEST(RecordsTest, AHeaderOfANewerVersionIsRefused) {
  std::string bytes = EncodeLogHeader({5, 6});
  ASSERT_EQ(bytes.size(), kLogHeaderBytes);
  const auto header = DecodeLogHeader(Bytes(bytes));
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->seed, 5u);
  EXPECT_EQ(header->generation, 6u);
  bytes[8] = 2;
  EXPECT_FALSE(DecodeLogHeader(Bytes(bytes)).ok());
}

}  // namespace
}  // namespace pbkfs
