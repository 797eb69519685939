// Writes one stored data file: records of an 8-byte header and a compressed page, one after another
// (format description, section 4.3; the padding and the markers of old versions by
// format_rules.h), and collects what page_header_map has to say about it (section
// 5).
#ifndef PBKFS_TESTS_SUPPORT_DATA_FILE_WRITER_H_
#define PBKFS_TESTS_SUPPORT_DATA_FILE_WRITER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "tests/support/format_rules.h"
#include "tests/support/page_format.h"

namespace pbkfs::testsupport {

// lz4 and zstd belong to commercial editions: a raw LZ4 block, and one zstd frame.
enum class Codec { kNone, kZlib, kPglz, kLz4, kZstd };
inline constexpr Codec kAllCodecs[] = {Codec::kNone, Codec::kZlib, Codec::kPglz, Codec::kLz4,
                                       Codec::kZstd};
std::string_view CodecName(Codec codec);

// One zlib stream (RFC 1950) of `input`.
std::string ZlibCompress(std::string_view input, int level);
// What is stored for a page: its compressed form, or the page itself where that is not smaller.
// Versions before 2.0.23 (`raw_page_is_8192` false) keep a compressed form of exactly 8192 bytes.
std::string EncodePage(const Page& page, Codec codec, int zlib_level, bool raw_page_is_8192 = true);

// The inflated header blob of one file; the worked example of section 14 checks its bytes.
class HeaderBlob {
 public:
  void Add(uint64_t lsn, uint32_t block, uint32_t position, uint16_t checksum);
  // Appends the closing record and returns all bytes. Call once.
  std::string Finish(uint32_t stored_bytes);

 private:
  std::string bytes_;
};

// Not thread safe. The file is created by the first Append: a file without blocks has no stored
// file.
class DataFileWriter {
 public:
  DataFileWriter(std::string path, Codec codec, int zlib_level, uint32_t segment,
                 const FormatRules& rules = {});
  ~DataFileWriter();
  DataFileWriter(const DataFileWriter&) = delete;
  DataFileWriter& operator=(const DataFileWriter&) = delete;

  // Blocks count from the start of the segment and must ascend.
  void Append(uint32_t block, const Page& page);
  // Says that the file ends at `block` (before 2.3.0). Nothing may be appended after it.
  void AppendTruncationMarker(uint32_t block);
  // Closes the file and returns the inflated header blob.
  std::string Finish();

  uint32_t blocks() const { return blocks_; }
  uint32_t stored_bytes() const { return position_; }
  uint32_t crc() const { return crc_; }

 private:
  void AppendRecord(uint32_t block, int32_t compressed_size, std::string_view payload);
  void Flush();

  const std::string path_;
  const Codec codec_;
  const int zlib_level_;
  const uint32_t segment_;
  const FormatRules rules_;
  int fd_ = -1;
  std::string buffer_;
  HeaderBlob headers_;
  uint32_t blocks_ = 0;
  int64_t last_block_ = -1;
  uint32_t position_ = 0;
  uint32_t crc_ = 0;
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_DATA_FILE_WRITER_H_
