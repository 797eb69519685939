// Any bytes as WAL: the scan for tablespaces must end, within its limits, without a fault.
//
// The first byte chooses how the rest is taken: as the bytes of segments, or as a list of records
// (manager, info, length, payload) that are written with correct headers and CRCs, so that the
// decoding of payloads is reached, with some bytes flipped afterwards.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "fs/catalog/wal_tablespaces.h"
#include "tests/fs/catalog/wal_writer.h"

namespace pbkfs {
namespace {

constexpr Lsn kBegin = 3 * WalWriter::kSegmentBytes;

void Scan(WalWriter& wal, Lsn begin, Lsn stop) {
  WalStart start = wal.Start(begin);
  start.system_identifier = 0;
  const auto scan = ScanForTablespaces(wal, start, stop);
  if (!scan.ok()) return;
  // Replay never ends before the records that were found, nor before it began.
  for (const TablespaceCreation& creation : scan->creations) {
    if (creation.lsn >= scan->end || creation.path.empty()) abort();
  }
  if (scan->end < begin) abort();
}

void ScanRaw(absl::Span<const uint8_t> bytes) {
  WalWriter wal;
  for (size_t done = 0; done < bytes.size();) {
    const size_t count = std::min<size_t>(bytes.size() - done, WalWriter::kSegmentBytes);
    std::copy_n(bytes.data() + done, count, wal.At(kBegin + done));
    done += count;
  }
  for (const Lsn begin : {kBegin, kBegin + 40}) Scan(wal, begin, kBegin + bytes.size());
}

void ScanRecords(absl::Span<const uint8_t> bytes) {
  WalWriter wal;
  const size_t flips = bytes.empty() ? 0 : bytes[0] % 4;
  if (bytes.size() < 1 + 4 * flips) return;
  const absl::Span<const uint8_t> where = bytes.subspan(1, 4 * flips);
  bytes.remove_prefix(1 + 4 * flips);
  while (bytes.size() >= 4) {
    const uint8_t manager = bytes[0];
    const uint8_t info = bytes[1];
    const size_t length = std::min<size_t>(bytes[2] << 8 | bytes[3], bytes.size() - 4);
    bytes.remove_prefix(4);
    wal.Append(manager, info, std::string(bytes.begin(), bytes.begin() + length));
    bytes.remove_prefix(length);
  }
  const Lsn end = wal.next();
  for (size_t i = 0; i < flips && end > kBegin; ++i) {
    const Lsn lsn =
        kBegin + (where[4 * i] << 16 | where[4 * i + 1] << 8 | where[4 * i + 2]) % (end - kBegin);
    *wal.At(lsn) = static_cast<char>(*wal.At(lsn) ^ where[4 * i + 3]);
  }
  Scan(wal, kBegin + 40, end);
}

}  // namespace
}  // namespace pbkfs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::Span<const uint8_t> rest(data + 1, size - 1);
  if (data[0] % 2 == 0) {
    pbkfs::ScanRaw(rest);
  } else {
    pbkfs::ScanRecords(rest);
  }
  return 0;
}
