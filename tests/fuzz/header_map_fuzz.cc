// page_header_map: the input as a deflated part, and as the records inside of a good one.
#include <libdeflate.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/crc32c.h"
#include "fs/catalog/limits.h"
#include "fs/image/header_map.h"
#include "fs/image/page_index.h"

namespace {

void Parse(absl::Span<const uint8_t> deflated, const pbkfs::FileEntry& entry) {
  const absl::StatusOr<pbkfs::StoredBlocks> blocks = pbkfs::ParseHeaderBlob(deflated, entry);
  if (!blocks.ok()) return;
  pbkfs::PageIndexBuilder builder;
  builder.Add(0, blocks->records, pbkfs::kSegmentBlocks);
  const auto index = builder.Finish();
  for (const pbkfs::PageRecord& record : blocks->records) {
    const auto found = index->Find(record.block);
    if (!found.has_value() || found->position != record.position ||
        found->position + pbkfs::kRecordHeaderBytes + found->length > entry.size) {
      abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static libdeflate_compressor* const compressor = libdeflate_alloc_compressor(1);
  if (size < 8) return 0;
  pbkfs::FileEntry entry;
  entry.is_datafile = true;
  entry.compress_alg = (data[0] & 1) != 0 ? pbkfs::CompressAlg::kZlib : pbkfs::CompressAlg::kNone;
  entry.size = pbkfs::LoadLittleEndian<uint32_t>(data + 4);
  entry.n_headers = pbkfs::LoadLittleEndian<uint16_t>(data + 2);
  const absl::Span<const uint8_t> rest(data + 8, size - 8);
  Parse(rest, entry);

  const size_t records = rest.size() / pbkfs::kHeaderRecordBytes;
  if (records < 2) return 0;
  const auto blob = rest.first(records * pbkfs::kHeaderRecordBytes);
  entry.n_headers = static_cast<int32_t>(records) - 1;
  entry.hdr_crc = pbkfs::Crc32c(blob.data(), blob.size());
  entry.size = pbkfs::LoadLittleEndian<uint32_t>(blob.data() + blob.size() - 12);
  std::vector<uint8_t> deflated(libdeflate_zlib_compress_bound(compressor, blob.size()));
  deflated.resize(libdeflate_zlib_compress(compressor, blob.data(), blob.size(), deflated.data(),
                                           deflated.size()));
  Parse(deflated, entry);
  return 0;
}
