#include "tests/support/data_file_writer.h"

#include <fcntl.h>
#include <lz4.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <utility>

#include "tests/support/fatal.h"
#include "tests/support/pglz_compressor.h"

namespace pbkfs::testsupport {
namespace {

constexpr size_t kFlushBytes = 1 << 20;
constexpr size_t kHeaderRecordBytes = 24;
constexpr size_t kPageHeaderBytes = 8;
constexpr int32_t kTruncated = -2;
constexpr size_t kAlignment = 8;
constexpr int kZstdLevel = 1;

std::string_view AsText(const Page& page) {
  return {reinterpret_cast<const char*>(page.data()), page.size()};
}

std::string Lz4Compress(std::string_view input) {
  const int size = static_cast<int>(input.size());
  std::string output(static_cast<size_t>(LZ4_compressBound(size)), '\0');
  const int length =
      LZ4_compress_default(input.data(), output.data(), size, static_cast<int>(output.size()));
  if (length <= 0) Fatal("lz4 failed");
  output.resize(static_cast<size_t>(length));
  return output;
}

std::string ZstdCompress(std::string_view input) {
  std::string output(ZSTD_compressBound(input.size()), '\0');
  const size_t length =
      ZSTD_compress(output.data(), output.size(), input.data(), input.size(), kZstdLevel);
  if (ZSTD_isError(length) != 0) Fatal(std::string("zstd failed: ") + ZSTD_getErrorName(length));
  output.resize(length);
  return output;
}

}  // namespace

std::string_view CodecName(Codec codec) {
  switch (codec) {
    case Codec::kNone:
      return "none";
    case Codec::kZlib:
      return "zlib";
    case Codec::kPglz:
      return "pglz";
    case Codec::kLz4:
      return "lz4";
    case Codec::kZstd:
      return "zstd";
  }
  return "none";
}

std::string ZlibCompress(std::string_view input, int level) {
  uLongf length = compressBound(input.size());
  std::string output(length, '\0');
  const int result = compress2(reinterpret_cast<Bytef*>(output.data()), &length,
                               reinterpret_cast<const Bytef*>(input.data()), input.size(), level);
  if (result != Z_OK) Fatal("zlib failed with code " + std::to_string(result));
  output.resize(length);
  return output;
}

std::string EncodePage(const Page& page, Codec codec, int zlib_level, bool raw_page_is_8192) {
  std::string encoded;
  if (codec == Codec::kZlib) encoded = ZlibCompress(AsText(page), zlib_level);
  if (codec == Codec::kPglz) encoded = PglzCompress(AsText(page));
  if (codec == Codec::kLz4) encoded = Lz4Compress(AsText(page));
  if (codec == Codec::kZstd) encoded = ZstdCompress(AsText(page));
  const size_t limit = raw_page_is_8192 ? kBlockSize : kBlockSize + 1;
  if (encoded.empty() || encoded.size() >= limit) return std::string(AsText(page));
  return encoded;
}

void HeaderBlob::Add(uint64_t lsn, uint32_t block, uint32_t position, uint16_t checksum) {
  uint8_t record[kHeaderRecordBytes] = {};
  PutLe(record, lsn, 8);
  PutLe(record + 8, block, 4);
  PutLe(record + 12, position, 4);
  PutLe(record + 16, checksum, 2);
  bytes_.append(reinterpret_cast<const char*>(record), sizeof(record));
}

std::string HeaderBlob::Finish(uint32_t stored_bytes) {
  Add(0, 0, stored_bytes, 0);
  return std::move(bytes_);
}

DataFileWriter::DataFileWriter(std::string path, Codec codec, int zlib_level, uint32_t segment,
                               const FormatRules& rules)
    : path_(std::move(path)),
      codec_(codec),
      zlib_level_(zlib_level),
      segment_(segment),
      rules_(rules) {}

DataFileWriter::~DataFileWriter() {
  if (fd_ >= 0) close(fd_);
}

void DataFileWriter::Append(uint32_t block, const Page& page) {
  if (static_cast<int64_t>(block) <= last_block_ || block >= kBlocksPerSegment) {
    Fatal(path_ + ": block " + std::to_string(block) + " is out of order or out of the segment");
  }
  const uint16_t checksum =
      IsZeroPage(page) ? 0 : PageChecksum(page, segment_ * kBlocksPerSegment + block);
  headers_.Add(IsZeroPage(page) ? 0 : PageLsn(page), block, position_, checksum);
  const std::string payload = EncodePage(page, codec_, zlib_level_, rules_.raw_page_is_8192);
  AppendRecord(block, static_cast<int32_t>(payload.size()), payload);
  ++blocks_;
}

void DataFileWriter::AppendTruncationMarker(uint32_t block) {
  AppendRecord(block, kTruncated, "");
  last_block_ = kBlocksPerSegment;
}

void DataFileWriter::AppendRecord(uint32_t block, int32_t compressed_size,
                                  std::string_view payload) {
  if (fd_ < 0) {
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd_ < 0) FatalErrno("create", path_);
  }
  uint8_t header[kPageHeaderBytes];
  PutLe(header, block, 4);
  PutLe(header + 4, static_cast<uint32_t>(compressed_size), 4);
  buffer_.append(reinterpret_cast<const char*>(header), sizeof(header));
  buffer_ += payload;
  // Padding is undefined in real files: it must not matter that it is not zero.
  const size_t padding =
      rules_.padded ? (kAlignment - payload.size() % kAlignment) % kAlignment : 0;
  buffer_.append(padding, '\x7E');
  position_ += static_cast<uint32_t>(sizeof(header) + payload.size() + padding);
  last_block_ = block;
  if (buffer_.size() >= kFlushBytes) Flush();
}

void DataFileWriter::Flush() {
  crc_ = FileCrcOf(rules_.file_crc, buffer_.data(), buffer_.size(), crc_);
  for (size_t done = 0; done < buffer_.size();) {
    const ssize_t count = write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (count < 0) FatalErrno("write", path_);
    done += static_cast<size_t>(count);
  }
  buffer_.clear();
}

std::string DataFileWriter::Finish() {
  if (fd_ >= 0) {
    Flush();
    if (close(std::exchange(fd_, -1)) != 0) FatalErrno("close", path_);
  }
  return headers_.Finish(position_);
}

}  // namespace pbkfs::testsupport
