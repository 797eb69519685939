// Page checksum, pglz and the page codecs, with the worked examples of the format document.
#include <gtest/gtest.h>
#include <zstd.h>

#include <random>
#include <utility>

#include "absl/strings/escaping.h"
#include "fs/base/bytes.h"
#include "fs/catalog/limits.h"
#include "fs/image/page_checksum.h"
#include "fs/image/page_codec.h"
#include "fs/image/pglz.h"
#include "fs/image/stream_scan.h"
#include "tests/support/data_file_writer.h"
#include "tests/support/page_format.h"
#include "tests/support/pglz_compressor.h"

namespace pbkfs {
namespace {

namespace ts = testsupport;

absl::Span<const uint8_t> Bytes(const std::string& text) {
  return absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

constexpr std::pair<ts::Codec, CompressAlg> kCompressors[] = {
    {ts::Codec::kZlib, CompressAlg::kZlib},
    {ts::Codec::kPglz, CompressAlg::kPglz},
    {ts::Codec::kLz4, CompressAlg::kLz4},
    {ts::Codec::kZstd, CompressAlg::kZstd},
};

// The zlib stream of 8192 bytes, found by trying, that has 8192 bytes itself; "" where none is.
std::string ZlibOfExactly8192() {
  std::mt19937 random(1);
  std::string noise(kPageBytes, 'a');
  for (char& c : noise) c = static_cast<char>(random());
  noise[0] = 'a';
  for (size_t length = 8000; length < noise.size(); ++length) {
    std::string page = noise.substr(0, length);
    page.resize(noise.size(), 'a');
    std::string stream = ts::ZlibCompress(page, 1);
    if (stream.size() == noise.size()) return stream;
  }
  return "";
}

std::vector<ts::Page> SamplePages() {
  std::vector<ts::Page> pages;
  for (const ts::PageFill fill :
       {ts::PageFill::kText, ts::PageFill::kRandom, ts::PageFill::kSparse, ts::PageFill::kZero}) {
    for (uint32_t block = 0; block < 8; ++block) {
      pages.push_back(ts::MakePage(7, 0x1234567, block, fill));
    }
  }
  return pages;
}

TEST(PageChecksumTest, WorkedExamplesMatch) {
  std::vector<uint8_t> page(kPageBytes);
  StoreLittleEndian<uint32_t>(0x01000028, &page[4]);
  StoreLittleEndian<uint16_t>(24, &page[12]);
  StoreLittleEndian<uint16_t>(8192, &page[14]);
  StoreLittleEndian<uint16_t>(8192, &page[16]);
  StoreLittleEndian<uint16_t>(0x2004, &page[18]);
  EXPECT_EQ(PageChecksum(page.data(), 0), 0xCFC8);
  EXPECT_EQ(PageChecksum(page.data(), 1), 0xCFC9);
  EXPECT_EQ(PageChecksum(page.data(), 131072), 0xCFCA);
  page[8] = 0xAB;  // The checksum field itself does not count.
  EXPECT_EQ(PageChecksum(page.data(), 0), 0xCFC8);
}

TEST(PageChecksumTest, AnIndependentImplementationAgrees) {
  for (const ts::Page& page : SamplePages()) {
    EXPECT_EQ(IsZeroPage(page.data()), ts::IsZeroPage(page));
    for (const uint32_t block : {0u, 1u, 131071u, 131072u, 4000000000u}) {
      if (!ts::IsZeroPage(page)) {
        EXPECT_EQ(PageChecksum(page.data(), block), ts::PageChecksum(page, block));
      }
    }
  }
  std::vector<uint8_t> page(kPageBytes);
  page.back() = 1;
  EXPECT_FALSE(IsZeroPage(page.data()));
}

TEST(PglzTest, WorkedExamplesMatch) {
  std::vector<uint8_t> out(21);
  ASSERT_TRUE(PglzDecode(Bytes(absl::HexStringToBytes("2031313233340D04")), absl::MakeSpan(out)));
  EXPECT_EQ(std::string(out.begin(), out.end()), "112341234123412341234");
  out.assign(200, 0);
  ASSERT_TRUE(PglzDecode(Bytes(absl::HexStringToBytes("02200F01B5")), absl::MakeSpan(out)));
  EXPECT_EQ(std::string(out.begin(), out.end()), std::string(200, ' '));
}

TEST(PglzTest, DamagedInputsAreRefused) {
  const auto decodes = [](absl::string_view hex, size_t size) {
    std::vector<uint8_t> out(size);
    const std::string in = absl::HexStringToBytes(hex);
    return PglzDecode(Bytes(in), absl::MakeSpan(out));
  };
  EXPECT_TRUE(decodes("0041", 1));
  EXPECT_FALSE(decodes("0041", 2)) << "the output is too short";
  EXPECT_FALSE(decodes("004142", 1)) << "input is left";
  EXPECT_FALSE(decodes("0241", 4)) << "no bytes for the reference";
  EXPECT_FALSE(decodes("024100", 4)) << "half a reference";
  EXPECT_FALSE(decodes("02410F01", 200)) << "no byte for the long length";
  EXPECT_FALSE(decodes("02410000", 4)) << "offset 0";
  EXPECT_FALSE(decodes("02410002", 4)) << "offset before the start";
  EXPECT_FALSE(decodes("010001", 3)) << "a reference first";
  EXPECT_TRUE(decodes("02410001", 4));
  EXPECT_TRUE(decodes("02410F01FF", 4)) << "a length is clipped to the room";
  EXPECT_FALSE(decodes("", 1));
}

TEST(PglzTest, WhatTheCompressorMakesComesBack) {
  int compressed = 0;
  for (const ts::Page& page : SamplePages()) {
    const std::string payload = ts::EncodePage(page, ts::Codec::kPglz, 1);
    std::vector<uint8_t> out(kPageBytes);
    CompressAlg algorithm = CompressAlg::kPglz;
    ASSERT_TRUE(DecodeStoredPage(FormatRules(), algorithm, Bytes(payload), out.data()));
    compressed += algorithm == CompressAlg::kPglz;
    EXPECT_TRUE(std::equal(out.begin(), out.end(), page.begin()));
  }
  EXPECT_GT(compressed, 10);
}

// Every byte flipped and every prefix must end in an answer, and nothing outside of the output may
// be touched (the sanitizers check the exact-size buffers).
TEST(CodecTest, DamagedPayloadsNeverReachOutside) {
  const ts::Page page = ts::MakePage(3, 0x1000, 5);
  for (const auto& [codec, algorithm] : kCompressors) {
    const std::string payload = ts::EncodePage(page, codec, 1);
    ASSERT_LT(payload.size(), static_cast<size_t>(kPageBytes));
    std::mt19937 random(1);
    for (int i = 0; i < 3000; ++i) {
      std::vector<uint8_t> damaged(payload.begin(), payload.end());
      for (int flips = 0; flips < 3; ++flips) {
        damaged[random() % damaged.size()] ^= static_cast<uint8_t>(1 + random() % 255);
      }
      if (i % 3 == 0) damaged.resize(random() % damaged.size());
      damaged.shrink_to_fit();
      std::vector<uint8_t> out(kPageBytes);
      const bool decoded = DecodePage(algorithm, damaged, out.data());
      if (algorithm == CompressAlg::kZlib) {
        EXPECT_FALSE(decoded && !std::equal(out.begin(), out.end(), page.begin()));
      }
    }
  }
}

TEST(CodecTest, ZlibStreamsMustFitExactly) {
  const ts::Page page = ts::MakePage(3, 0x1000, 5);
  const std::string payload = ts::EncodePage(page, ts::Codec::kZlib, 1);
  std::vector<uint8_t> out(kPageBytes);
  EXPECT_TRUE(InflateZlib(Bytes(payload), absl::MakeSpan(out)));
  EXPECT_FALSE(InflateZlib(Bytes(payload + "x"), absl::MakeSpan(out))) << "input is left";
  EXPECT_FALSE(InflateZlib(Bytes(payload), absl::MakeSpan(out).first(8191))) << "too much output";
  std::vector<uint8_t> larger(kPageBytes + 1);
  EXPECT_FALSE(InflateZlib(Bytes(payload), absl::MakeSpan(larger))) << "too little output";
}

TEST(CodecTest, RawPagesHaveExactlyOnePage) {
  const std::string raw(kPageBytes, 'r');
  std::vector<uint8_t> out(kPageBytes);
  for (size_t i = 0; i < kCompressAlgCount; ++i) {
    auto algorithm = static_cast<CompressAlg>(i);
    EXPECT_TRUE(DecodeStoredPage(FormatRules(), algorithm, Bytes(raw), out.data()));
    EXPECT_EQ(algorithm, CompressAlg::kNone);
    EXPECT_EQ(out[5], 'r');
  }
  EXPECT_FALSE(DecodePage(CompressAlg::kNone, Bytes(raw).first(100), out.data()));
  EXPECT_FALSE(DecodePage(CompressAlg::kZstd, Bytes(raw), out.data()));
}

TEST(CodecTest, EveryPageOfEveryCodecComesBackAndMustFitExactly) {
  for (const auto& [codec, algorithm] : kCompressors) {
    SCOPED_TRACE(std::string(CompressAlgName(algorithm)));
    int compressed = 0;
    for (const ts::Page& page : SamplePages()) {
      const std::string payload = ts::EncodePage(page, codec, 1);
      std::vector<uint8_t> out(kPageBytes);
      CompressAlg used = algorithm;
      ASSERT_TRUE(DecodeStoredPage(FormatRules(), used, Bytes(payload), out.data()));
      EXPECT_TRUE(std::equal(out.begin(), out.end(), page.begin()));
      if (used != algorithm) continue;
      ++compressed;
      EXPECT_FALSE(DecodePage(algorithm, Bytes(payload + "x"), out.data())) << "input is left";
      EXPECT_FALSE(DecodePage(algorithm, Bytes(payload).first(payload.size() - 1), out.data()));
      EXPECT_FALSE(DecodePage(algorithm, {}, out.data()));
    }
    EXPECT_GT(compressed, 10);
  }
}

// Two frames that together give one page are not what is ever stored.
TEST(CodecTest, AZstdPageIsOneFrame) {
  const std::string half(kPageBytes / 2, 'h');
  std::string frames;
  for (int i = 0; i < 2; ++i) {
    std::string frame(ZSTD_compressBound(half.size()), '\0');
    frame.resize(ZSTD_compress(frame.data(), frame.size(), half.data(), half.size(), 1));
    frames += frame;
  }
  std::vector<uint8_t> out(kPageBytes);
  EXPECT_FALSE(DecodePage(CompressAlg::kZstd, Bytes(frames), out.data()));
}

// Before 2.0.23 a payload of 8192 bytes can be a page that compressed to that length.
TEST(CodecTest, OnlyOldProgramsStoredCompressedPagesOfFullLength) {
  const ts::Page page = ts::MakePage(3, 0x1000, 5, ts::PageFill::kRandom);
  const std::string raw(page.begin(), page.end());
  std::vector<uint8_t> out(kPageBytes);
  const FormatRules old = FormatRules::Of(20022);
  for (size_t i = 0; i < kCompressAlgCount; ++i) {
    auto algorithm = static_cast<CompressAlg>(i);
    ASSERT_TRUE(DecodeStoredPage(old, algorithm, Bytes(raw), out.data()));
    EXPECT_TRUE(std::equal(out.begin(), out.end(), page.begin())) << "a plausible page is raw";
    const std::string zero(kPageBytes, '\0');
    algorithm = static_cast<CompressAlg>(i);
    ASSERT_TRUE(DecodeStoredPage(old, algorithm, Bytes(zero), out.data())) << "so is a zero page";
    EXPECT_EQ(algorithm, CompressAlg::kNone);
  }
  const std::string full = ZlibOfExactly8192();
  ASSERT_EQ(full.size(), static_cast<size_t>(kPageBytes));
  CompressAlg algorithm = CompressAlg::kZlib;
  ASSERT_TRUE(DecodeStoredPage(old, algorithm, Bytes(full), out.data()));
  EXPECT_EQ(algorithm, CompressAlg::kZlib);
  EXPECT_EQ(out[0], 'a');
  ASSERT_TRUE(DecodeStoredPage(FormatRules::Of(20023), algorithm, Bytes(full), out.data()));
  EXPECT_EQ(algorithm, CompressAlg::kNone);
  EXPECT_EQ(out[0], 0x78);
}

}  // namespace
}  // namespace pbkfs
