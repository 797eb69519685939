// The scan of a stored data file, by the rules of every version; the CRC of the list is made right.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "fs/catalog/limits.h"
#include "fs/image/file_crc.h"
#include "fs/image/index_store.h"
#include "fs/image/stream_scan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  constexpr uint32_t kVersions[] = {20017, 20022, 20024, 20025, 20207, 20305, 20400, 20516};
  const absl::Span<const uint8_t> stream(data + 2, size - 2);
  const pbkfs::FormatRules rules = pbkfs::FormatRules::Of(kVersions[data[0] % 8]);
  pbkfs::FileEntry entry;
  entry.is_datafile = true;
  entry.compress_alg = static_cast<pbkfs::CompressAlg>(data[1] % pbkfs::kCompressAlgCount);
  entry.size = static_cast<int64_t>(stream.size());
  pbkfs::FileCrc crc(rules);
  crc.Update(stream);
  entry.crc = crc.value();
  const auto read = [&stream](int64_t offset, absl::Span<uint8_t> out) {
    if (offset < 0 || static_cast<size_t>(offset) + out.size() > stream.size()) abort();
    memcpy(out.data(), stream.data() + offset, out.size());
    return absl::OkStatus();
  };
  const auto blocks = pbkfs::ScanStream(read, entry, rules, (data[0] & 0x80) != 0);
  if (!blocks.ok()) return 0;
  // What a scan finds is what the cache on disk accepts.
  const pbkfs::IndexStoreKey key = {"name", "validity"};
  const std::string bytes = pbkfs::EncodeIndexEntry(key, *blocks);
  const auto again = pbkfs::DecodeIndexEntry(
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()), key);
  if (!again.has_value() || again->records.size() != blocks->records.size()) abort();
  return 0;
}
