#include "fs/catalog/wal_tablespaces.h"

#include <algorithm>
#include <optional>

#include "fs/base/bytes.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

constexpr uint8_t kTablespaceManager = 5;
constexpr uint8_t kInfoMask = 0xF0;
constexpr uint8_t kCreateInfo = 0x00;

// Ids of the parts of a record's payload (access/xlogrecord.h).
constexpr uint8_t kShortDataId = 255;
constexpr uint8_t kLongDataId = 254;
constexpr uint8_t kOriginId = 253;
constexpr uint8_t kTopLevelXidId = 252;

// The record's own data, which stand behind all part headers. Nothing for a payload of a shape
// that a tablespace record never has.
std::optional<absl::Span<const uint8_t>> MainData(absl::Span<const uint8_t> payload) {
  while (!payload.empty()) {
    const uint8_t id = payload[0];
    payload.remove_prefix(1);
    size_t skip = 0;
    if (id == kShortDataId || id == kLongDataId) {
      const size_t width = id == kShortDataId ? 1 : 4;
      if (payload.size() < width) return std::nullopt;
      const uint64_t length = width == 1 ? payload[0] : LoadLittleEndian<uint32_t>(payload.data());
      payload.remove_prefix(width);
      if (length != payload.size()) return std::nullopt;
      return payload;
    }
    if (id == kOriginId) skip = 2;
    if (id == kTopLevelXidId) skip = 4;
    if (skip == 0 || payload.size() < skip) return std::nullopt;
    payload.remove_prefix(skip);
  }
  return std::nullopt;
}

TablespaceCreation DecodeCreation(const WalRecord& record) {
  TablespaceCreation creation;
  creation.lsn = record.begin;
  creation.path = "(unreadable)";
  const auto data = MainData(record.payload);
  if (!data.has_value() || data->size() < 5) return creation;
  creation.oid = LoadLittleEndian<uint32_t>(data->data());
  const absl::Span<const uint8_t> path = data->subspan(4);
  const auto end = std::find(path.begin(), path.end(), 0);
  if (end != path.end()) creation.path.assign(path.begin(), end);
  return creation;
}

// A stop LSN may point behind the header of the page at which the last record ended.
bool Reached(Lsn position, Lsn stop) {
  constexpr Lsn kLongestHeader = 40;
  return position >= stop || (position % kWalPageBytes == 0 && stop - position <= kLongestHeader);
}

}  // namespace

absl::StatusOr<TablespaceScan> ScanForTablespaces(WalSource& source, const WalStart& start,
                                                  Lsn stop) {
  absl::StatusOr<WalReader> reader = WalReader::Create(source, start);
  if (!reader.ok()) return reader.status();
  TablespaceScan scan;
  while (true) {
    const absl::StatusOr<WalRecord> record = reader->Next();
    if (!record.ok()) {
      if (!absl::IsDataLoss(record.status()) && !absl::IsNotFound(record.status())) {
        return record.status();
      }
      scan.end = reader->position();
      if (!Reached(scan.end, stop)) scan.problem = record.status();
      return scan;
    }
    if (record->resource_manager != kTablespaceManager ||
        (record->info & kInfoMask) != kCreateInfo) {
      continue;
    }
    TablespaceCreation creation = DecodeCreation(*record);
    if (creation.path.empty() || scan.creations.size() >= kMaxTablespaceCreations) continue;
    scan.creations.push_back(std::move(creation));
  }
}

}  // namespace pbkfs
