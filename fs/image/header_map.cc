#include "fs/image/header_map.h"

#include "absl/strings/str_cat.h"
#include "fs/base/bytes.h"
#include "fs/base/crc32c.h"
#include "fs/base/status.h"
#include "fs/catalog/beneath.h"
#include "fs/catalog/limits.h"
#include "fs/image/page_codec.h"

namespace pbkfs {
namespace {

absl::Status Corrupt(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt,
                     absl::StrCat("page_header_map: ", what));
}

// Offsets in the 24-byte record.
constexpr int kBlockOffset = 8;
constexpr int kPositionOffset = 12;
constexpr int kChecksumOffset = 16;

absl::Status CheckRecord(const FileEntry& entry, int64_t previous_block, int64_t block,
                         int64_t position, int64_t next_position) {
  const int64_t length = next_position - position - kRecordHeaderBytes;
  if (block <= previous_block || block >= kSegmentBlocks) {
    return Corrupt(absl::StrCat("block ", block, " follows block ", previous_block));
  }
  if (length < 1 || length > kPageBytes) {
    return Corrupt(absl::StrCat("block ", block, " has ", length, " bytes at position ", position));
  }
  if (entry.compress_alg == CompressAlg::kNone && length != kPageBytes) {
    return Corrupt(absl::StrCat("block ", block, " has ", length, " bytes, but is not compressed"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StoredBlocks> ParseHeaderBlob(absl::Span<const uint8_t> deflated,
                                             const FileEntry& entry) {
  const auto count = static_cast<size_t>(entry.n_headers);
  std::vector<uint8_t> blob((count + 1) * kHeaderRecordBytes);
  if (!InflateZlib(deflated, absl::MakeSpan(blob))) {
    return Corrupt(absl::StrCat("the part at offset ", entry.hdr_off, " does not inflate"));
  }
  if (Crc32c(blob.data(), blob.size()) != entry.hdr_crc) {
    return Corrupt(absl::StrCat("the part at offset ", entry.hdr_off, " fails its CRC"));
  }
  const auto at = [&blob](size_t record, int offset) {
    return blob.data() + record * kHeaderRecordBytes + offset;
  };
  StoredBlocks blocks;
  std::vector<PageRecord>& records = blocks.records;
  records.resize(count);
  int64_t previous_block = -1;
  for (size_t i = 0; i < count; ++i) {
    const int64_t block = LoadLittleEndian<int32_t>(at(i, kBlockOffset));
    const int64_t position = LoadLittleEndian<int32_t>(at(i, kPositionOffset));
    const int64_t next_position = LoadLittleEndian<int32_t>(at(i + 1, kPositionOffset));
    if (i == 0 && position != 0) return Corrupt("the first record is not at position 0");
    PBKFS_RETURN_IF_ERROR(CheckRecord(entry, previous_block, block, position, next_position));
    records[i] = {static_cast<uint32_t>(block), static_cast<uint32_t>(position),
                  static_cast<uint16_t>(next_position - position - kRecordHeaderBytes),
                  LoadLittleEndian<uint16_t>(at(i, kChecksumOffset))};
    previous_block = block;
  }
  const int64_t end = LoadLittleEndian<int32_t>(at(count, kPositionOffset));
  if (end != entry.size) {
    return Corrupt(
        absl::StrCat("the records end at ", end, ", but the file has ", entry.size, " bytes"));
  }
  return blocks;
}

absl::StatusOr<StoredBlocks> ReadHeaderMap(int header_map_fd, const FileEntry& entry) {
  // hdr_size and n_headers were bounded when the list was parsed.
  std::vector<uint8_t> deflated(static_cast<size_t>(entry.hdr_size));
  const absl::Status status = ReadExactly(header_map_fd, entry.hdr_off, absl::MakeSpan(deflated));
  if (!status.ok()) return Annotate(status, "page_header_map");
  return ParseHeaderBlob(deflated, entry);
}

}  // namespace pbkfs
