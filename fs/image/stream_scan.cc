#include "fs/image/stream_scan.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fs/base/bytes.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"
#include "fs/image/file_crc.h"
#include "fs/image/limits.h"
#include "fs/image/page_checksum.h"
#include "fs/image/page_codec.h"

namespace pbkfs {
namespace {

constexpr int32_t kTruncationMarker = -2;
constexpr size_t kStoredChecksumOffset = 8;

absl::Status Corrupt(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt, what);
}

// Hands out a file in order, reading ahead, and takes the CRC of what it read.
class StreamReader {
 public:
  StreamReader(ReadStream read, int64_t size, const FormatRules& rules)
      : read_(read), size_(size), crc_(rules), buffer_(kScanBufferBytes) {}

  int64_t position() const { return position_; }
  int64_t remaining() const { return size_ - position_; }
  uint32_t crc() const { return crc_.value(); }

  // The next `count` bytes, at most a record; they stay valid until the next call. The caller knows
  // that so many remain.
  absl::StatusOr<absl::Span<const uint8_t>> Take(int64_t count) {
    if (end_ - begin_ < count) PBKFS_RETURN_IF_ERROR(Fill());
    const auto taken = absl::MakeConstSpan(buffer_).subspan(static_cast<size_t>(begin_),
                                                            static_cast<size_t>(count));
    begin_ += count;
    position_ += count;
    return taken;
  }

  // Reads what is left, for the CRC.
  absl::Status Drain() {
    while (remaining() > 0) {
      begin_ = end_;
      position_ = read_to_;
      if (remaining() > 0) PBKFS_RETURN_IF_ERROR(Fill());
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Fill() {
    memmove(buffer_.data(), buffer_.data() + begin_, static_cast<size_t>(end_ - begin_));
    end_ -= begin_;
    begin_ = 0;
    const int64_t count = std::min(size_ - read_to_, static_cast<int64_t>(buffer_.size()) - end_);
    const auto part =
        absl::MakeSpan(buffer_).subspan(static_cast<size_t>(end_), static_cast<size_t>(count));
    PBKFS_RETURN_IF_ERROR(read_(read_to_, part));
    crc_.Update(part);
    end_ += count;
    read_to_ += count;
    return absl::OkStatus();
  }

  const ReadStream read_;
  const int64_t size_;
  FileCrc crc_;
  std::vector<uint8_t> buffer_;
  int64_t begin_ = 0;  // In the buffer: what is read and not yet taken.
  int64_t end_ = 0;
  int64_t read_to_ = 0;   // In the file.
  int64_t position_ = 0;  // In the file: the next byte to be taken.
};

// The checksum of a page for its record, or why this can't be a page of a relation.
absl::StatusOr<uint16_t> CheckPage(const uint8_t* page, uint32_t absolute_block,
                                   bool has_page_checksums) {
  if (IsZeroPage(page)) return 0;
  if (!HasPlausibleHeader(page)) return Corrupt("the page header is not plausible");
  const uint16_t checksum = PageChecksum(page, absolute_block);
  if (has_page_checksums && LoadLittleEndian<uint16_t>(page + kStoredChecksumOffset) != checksum) {
    return Corrupt("the page fails its checksum");
  }
  return checksum;
}

class Scanner {
 public:
  Scanner(ReadStream read, const FileEntry& entry, const FormatRules& rules,
          bool has_page_checksums)
      : reader_(read, entry.size, rules),
        entry_(entry),
        rules_(rules),
        has_page_checksums_(has_page_checksums),
        page_(kPageBytes) {}

  absl::StatusOr<StoredBlocks> Run() {
    bool at_end = false;
    while (reader_.remaining() > 0 && !at_end) {
      const int64_t position = reader_.position();
      const absl::Status status = TakeRecord(at_end);
      if (!status.ok()) return Annotate(status, absl::StrCat("record at position ", position));
    }
    PBKFS_RETURN_IF_ERROR(reader_.Drain());
    if (reader_.crc() != entry_.crc) {
      return Corrupt(absl::StrCat("the stored file has CRC ", reader_.crc(),
                                  ", but the list of files says ", entry_.crc));
    }
    return std::move(blocks_);
  }

 private:
  absl::Status TakeRecord(bool& at_end) {
    const int64_t position = reader_.position();
    if (reader_.remaining() < kRecordHeaderBytes) return Corrupt("the file ends in a header");
    PBKFS_ASSIGN_OR_RETURN(const absl::Span<const uint8_t> header,
                           reader_.Take(kRecordHeaderBytes));
    const int64_t block = LoadLittleEndian<int32_t>(header.data());
    const int64_t length = LoadLittleEndian<int32_t>(header.data() + 4);
    const int64_t previous = blocks_.records.empty() ? -1 : int64_t{blocks_.records.back().block};
    if (length == kTruncationMarker && rules_.truncation_markers) {
      if (block < 0 || block > kSegmentBlocks) return Corrupt("a marker lies outside of the file");
      blocks_.cut_at = block;
      at_end = true;
      return absl::OkStatus();
    }
    if (block <= previous || block >= kSegmentBlocks) {
      return Corrupt(absl::StrCat("block ", block, " follows block ", previous));
    }
    if (length < 1 || length > kPageBytes) {
      return Corrupt(absl::StrCat("block ", block, " has ", length, " bytes"));
    }
    const int64_t stored = rules_.padded_records ? (length + 7) / 8 * 8 : length;
    if (reader_.remaining() < stored) return Corrupt("the file ends in a page");
    PBKFS_ASSIGN_OR_RETURN(absl::Span<const uint8_t> payload, reader_.Take(stored));
    PageRecord record = {static_cast<uint32_t>(block), static_cast<uint32_t>(position),
                         static_cast<uint16_t>(length), 0};
    PBKFS_ASSIGN_OR_RETURN(record.checksum,
                           CheckPayload(block, payload.first(static_cast<size_t>(length))));
    blocks_.records.push_back(record);
    return absl::OkStatus();
  }

  absl::StatusOr<uint16_t> CheckPayload(int64_t block, absl::Span<const uint8_t> payload) {
    CompressAlg algorithm = entry_.compress_alg;
    if (!DecodeStoredPage(rules_, algorithm, payload, page_.data())) {
      return Corrupt(absl::StrCat("block ", block, " is not a page compressed with ",
                                  CompressAlgName(algorithm)));
    }
    return CheckPage(page_.data(), static_cast<uint32_t>(entry_.segno * kSegmentBlocks + block),
                     has_page_checksums_);
  }

  StreamReader reader_;
  const FileEntry& entry_;
  const FormatRules& rules_;
  const bool has_page_checksums_;
  std::vector<uint8_t> page_;
  StoredBlocks blocks_;
};

}  // namespace

absl::StatusOr<StoredBlocks> ScanStream(ReadStream read, const FileEntry& entry,
                                        const FormatRules& rules, bool has_page_checksums) {
  return Scanner(read, entry, rules, has_page_checksums).Run();
}

bool DecodeStoredPage(const FormatRules& rules, CompressAlg& algorithm,
                      absl::Span<const uint8_t> payload, uint8_t* page) {
  const bool full = payload.size() == static_cast<size_t>(kPageBytes);
  // The first byte of every zlib stream that was ever written here.
  constexpr uint8_t kZlibMark = 0x78;
  const bool compressed =
      !full || (rules.full_payload_may_be_compressed && algorithm != CompressAlg::kNone &&
                (algorithm != CompressAlg::kZlib || payload[0] == kZlibMark) &&
                !IsZeroPage(payload.data()) && !HasPlausibleHeader(payload.data()));
  if (!compressed) algorithm = CompressAlg::kNone;
  return DecodePage(algorithm, payload, page);
}

}  // namespace pbkfs
