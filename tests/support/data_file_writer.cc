#include "tests/support/data_file_writer.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <utility>

#include "tests/support/fatal.h"
#include "tests/support/pglz_compressor.h"

namespace pbkfs::testsupport {
namespace {

constexpr size_t kFlushBytes = 1 << 20;
constexpr size_t kHeaderRecordBytes = 24;
constexpr size_t kPageHeaderBytes = 8;

std::string_view AsText(const Page& page) {
  return {reinterpret_cast<const char*>(page.data()), page.size()};
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

std::string EncodePage(const Page& page, Codec codec, int zlib_level) {
  std::string encoded;
  if (codec == Codec::kZlib) encoded = ZlibCompress(AsText(page), zlib_level);
  if (codec == Codec::kPglz) encoded = PglzCompress(AsText(page));
  if (encoded.empty() || encoded.size() >= kBlockSize) return std::string(AsText(page));
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

DataFileWriter::DataFileWriter(std::string path, Codec codec, int zlib_level, uint32_t segment)
    : path_(std::move(path)), codec_(codec), zlib_level_(zlib_level), segment_(segment) {}

DataFileWriter::~DataFileWriter() {
  if (fd_ >= 0) close(fd_);
}

void DataFileWriter::Append(uint32_t block, const Page& page) {
  if (static_cast<int64_t>(block) <= last_block_ || block >= kBlocksPerSegment) {
    Fatal(path_ + ": block " + std::to_string(block) + " is out of order or out of the segment");
  }
  if (fd_ < 0) {
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd_ < 0) FatalErrno("create", path_);
  }
  const uint16_t checksum =
      IsZeroPage(page) ? 0 : PageChecksum(page, segment_ * kBlocksPerSegment + block);
  headers_.Add(IsZeroPage(page) ? 0 : PageLsn(page), block, position_, checksum);

  const std::string payload = EncodePage(page, codec_, zlib_level_);
  uint8_t header[kPageHeaderBytes];
  PutLe(header, block, 4);
  PutLe(header + 4, payload.size(), 4);
  buffer_.append(reinterpret_cast<const char*>(header), sizeof(header));
  buffer_ += payload;
  position_ += static_cast<uint32_t>(sizeof(header) + payload.size());
  last_block_ = block;
  ++blocks_;
  if (buffer_.size() >= kFlushBytes) Flush();
}

void DataFileWriter::Flush() {
  crc_ = Crc32c(buffer_.data(), buffer_.size(), crc_);
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
