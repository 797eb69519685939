#include "fs/catalog/wal_payload.h"

#include <algorithm>
#include <utility>

#include "fs/base/bytes.h"

namespace pbkfs {
namespace {

using Bytes = absl::Span<const uint8_t>;

constexpr uint8_t kXlogManager = 0;
constexpr uint8_t kTransactionManager = 1;
constexpr uint8_t kTablespaceManager = 5;

constexpr uint8_t kInfoMask = 0xF0;
constexpr uint8_t kRestorePointInfo = 0x70;
constexpr uint8_t kCreateTablespaceInfo = 0x00;
// Of a transaction's record: three bits say what it is, one that flags follow.
constexpr uint8_t kTransactionMask = 0x70;
constexpr uint8_t kCommitInfo = 0x00;
constexpr uint8_t kAbortInfo = 0x20;
constexpr uint8_t kCommitPreparedInfo = 0x30;
constexpr uint8_t kAbortPreparedInfo = 0x40;
constexpr uint8_t kHasFlags = 0x80;

// Ids of the parts of a record's payload.
constexpr uint8_t kShortDataId = 255;
constexpr uint8_t kLongDataId = 254;
constexpr uint8_t kOriginId = 253;
constexpr uint8_t kTopLevelXidId = 252;

constexpr size_t kRestorePointNameBytes = 64;
constexpr absl::Duration kPostgresEpoch = absl::Seconds(946684800);  // 2000-01-01, since 1970.

// The record's own data, which stand behind all part headers: their beginning where the payload was
// kept in part. Nothing for a payload of a shape that these records never have.
std::optional<Bytes> MainData(const WalRecord& record) {
  Bytes payload = record.payload;
  uint64_t missing = record.payload_bytes - payload.size();
  while (!payload.empty()) {
    const uint8_t id = payload[0];
    payload.remove_prefix(1);
    size_t skip = 0;
    if (id == kShortDataId || id == kLongDataId) {
      const size_t width = id == kShortDataId ? 1 : 4;
      if (payload.size() < width) return std::nullopt;
      const uint64_t length = width == 1 ? payload[0] : LoadLittleEndian<uint32_t>(payload.data());
      payload.remove_prefix(width);
      if (length != payload.size() + missing) return std::nullopt;
      return payload;
    }
    if (id == kOriginId) skip = 2;
    if (id == kTopLevelXidId) skip = 4;
    if (skip == 0 || payload.size() < skip) return std::nullopt;
    payload.remove_prefix(skip);
  }
  return std::nullopt;
}

template <typename T>
bool Take(Bytes& data, T* value) {
  if (data.size() < sizeof(T)) return false;
  *value = LoadLittleEndian<T>(data.data());
  data.remove_prefix(sizeof(T));
  return true;
}

bool Skip(Bytes& data, uint64_t bytes) {
  if (data.size() < bytes) return false;
  data.remove_prefix(static_cast<size_t>(bytes));
  return true;
}

// `data` behind the time. The xid of the prepared transaction stands behind lists that flags
// announce, in this order.
std::optional<uint32_t> PreparedXid(Bytes data, uint8_t info, int server_major) {
  constexpr uint32_t kTwoPhaseFlag = 1 << 4;
  struct Part {
    uint32_t flag;
    bool counted;
    uint32_t bytes;
  };
  const Part parts[] = {
      {1 << 0, false, 8},                              // Database and tablespace.
      {1 << 1, true, 4},                               // Subtransactions.
      {1 << 2, true, 12},                              // Files to drop.
      {1 << 8, true, server_major >= 18 ? 16u : 12u},  // Statistics to drop, since 15.
      {1 << 3, true, 16},                              // Invalidation messages; commits only.
  };
  uint32_t flags = 0;
  if ((info & kHasFlags) == 0 || !Take(data, &flags)) return std::nullopt;
  for (const Part& part : parts) {
    if ((flags & part.flag) == 0) continue;
    uint32_t count = 1;
    if (part.counted && !Take(data, &count)) return std::nullopt;
    if (!Skip(data, uint64_t{count} * part.bytes)) return std::nullopt;
  }
  uint32_t xid = 0;
  if ((flags & kTwoPhaseFlag) == 0 || !Take(data, &xid)) return std::nullopt;
  return xid;
}

}  // namespace

std::optional<TablespaceCreation> DecodeTablespaceCreation(const WalRecord& record) {
  if (record.resource_manager != kTablespaceManager ||
      (record.info & kInfoMask) != kCreateTablespaceInfo) {
    return std::nullopt;
  }
  TablespaceCreation creation;
  creation.lsn = record.begin;
  creation.path = "(unreadable)";
  const std::optional<Bytes> data = MainData(record);
  if (!data.has_value() || data->size() < 5) return creation;
  creation.oid = LoadLittleEndian<uint32_t>(data->data());
  const Bytes path = data->subspan(4);
  const auto end = std::find(path.begin(), path.end(), 0);
  if (end != path.end()) creation.path.assign(path.begin(), end);
  // Without a path of its own (allow_in_place_tablespaces) it is harmless.
  if (creation.path.empty()) return std::nullopt;
  return creation;
}

std::optional<TransactionEnd> DecodeTransactionEnd(const WalRecord& record, int server_major) {
  if (record.resource_manager != kTransactionManager) return std::nullopt;
  const uint8_t kind = record.info & kTransactionMask;
  const bool prepared = kind == kCommitPreparedInfo || kind == kAbortPreparedInfo;
  if (kind != kCommitInfo && kind != kAbortInfo && !prepared) return std::nullopt;
  std::optional<Bytes> data = MainData(record);
  int64_t microseconds = 0;
  if (!data.has_value() || !Take(*data, &microseconds)) return std::nullopt;
  TransactionEnd end;
  end.time = absl::UnixEpoch() + kPostgresEpoch + absl::Microseconds(microseconds);
  end.xid = prepared ? PreparedXid(*data, record.info, server_major).value_or(0) : record.xid;
  return end;
}

std::optional<std::string> DecodeRestorePoint(const WalRecord& record) {
  if (record.resource_manager != kXlogManager || (record.info & kInfoMask) != kRestorePointInfo) {
    return std::nullopt;
  }
  std::optional<Bytes> data = MainData(record);
  if (!data.has_value() || !Skip(*data, sizeof(int64_t))) return std::nullopt;
  const Bytes name = data->subspan(0, kRestorePointNameBytes);
  return std::string(name.begin(), std::find(name.begin(), name.end(), 0));
}

}  // namespace pbkfs
