#include "fs/catalog/pg_control.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "fs/base/bytes.h"
#include "fs/base/crc32c.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

constexpr size_t kVersionOffset = 8;
constexpr size_t kCatalogVersionOffset = 12;
constexpr size_t kWalLevelOffset = 172;
constexpr size_t kMaxConnectionsOffset = 180;
constexpr size_t kMaxWorkersOffset = 184;
constexpr size_t kMaxSendersOffset = 188;
constexpr size_t kMaxPreparedOffset = 192;
constexpr size_t kMaxLocksOffset = 196;
constexpr size_t kMaxAlignOffset = 204;
constexpr size_t kFloatOffset = 208;
constexpr size_t kBlockSizeOffset = 216;
constexpr size_t kWalBlockSizeOffset = 224;
constexpr size_t kWalSegmentOffset = 228;
// The CRC closes the struct: at 288, or 292 in PostgreSQL 18.
constexpr size_t kFirstCrcOffset = 256;

constexpr uint32_t kMaxAlign = 8;
constexpr double kFloatConstant = 1234567.0;

// pg_control_version of PostgreSQL 12, 13 to 16, 17, 18.
constexpr uint32_t kVersions[] = {1201, 1300, 1700, 1800};

absl::Status Corrupt(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt,
                     absl::StrCat("global/pg_control: ", what));
}

bool CrcMatches(absl::string_view bytes) {
  for (size_t end = kFirstCrcOffset; end + 4 <= kMinPgControlBytes; end += 4) {
    if (Crc32c(bytes.data(), end) == LoadLittleEndian<uint32_t>(bytes.data() + end)) return true;
  }
  return false;
}

bool LayoutIsKnown(absl::string_view bytes) {
  const auto raw = LoadLittleEndian<uint64_t>(bytes.data() + kFloatOffset);
  double constant;
  memcpy(&constant, &raw, sizeof(constant));
  return LoadLittleEndian<uint32_t>(bytes.data() + kMaxAlignOffset) == kMaxAlign &&
         constant == kFloatConstant &&
         LoadLittleEndian<uint32_t>(bytes.data() + kBlockSizeOffset) == kPageBytes &&
         LoadLittleEndian<uint32_t>(bytes.data() + kWalBlockSizeOffset) == kWalPageBytes;
}

}  // namespace

absl::string_view WalLevelName(WalLevel level) {
  switch (level) {
    case WalLevel::kMinimal:
      return "minimal";
    case WalLevel::kReplica:
      return "replica";
    case WalLevel::kLogical:
      return "logical";
  }
  return "replica";
}

absl::StatusOr<PgControl> ParsePgControl(absl::string_view bytes) {
  if (bytes.size() < kMinPgControlBytes) {
    return Corrupt(absl::StrCat("has only ", bytes.size(), " bytes"));
  }
  const auto number = [&bytes](size_t offset) {
    return LoadLittleEndian<uint32_t>(bytes.data() + offset);
  };
  PgControl control;
  control.version = number(kVersionOffset);
  if (std::find(std::begin(kVersions), std::end(kVersions), control.version) ==
      std::end(kVersions)) {
    return ReasonError(absl::StatusCode::kUnimplemented, reason::kUnsupportedFormat,
                       absl::StrCat("global/pg_control has version ", control.version,
                                    "; those of PostgreSQL 12 to 18 are known"));
  }
  if (!CrcMatches(bytes)) return Corrupt("its CRC is wrong; validate the backup");
  if (!LayoutIsKnown(bytes)) {
    return ReasonError(absl::StatusCode::kUnimplemented, reason::kUnsupportedFormat,
                       "global/pg_control is of a server with another block size or layout");
  }
  control.system_identifier = LoadLittleEndian<uint64_t>(bytes.data());
  control.catalog_version = number(kCatalogVersionOffset);
  control.wal_segment_bytes = number(kWalSegmentOffset);
  const uint32_t size = control.wal_segment_bytes;
  if (size < kMinWalSegmentBytes || size > kMaxWalSegmentBytes || (size & (size - 1)) != 0) {
    return Corrupt(absl::StrCat("has WAL segments of ", size, " bytes"));
  }
  const uint32_t level = number(kWalLevelOffset);
  if (level > static_cast<uint32_t>(WalLevel::kLogical)) {
    return Corrupt(absl::StrCat("has wal_level ", level));
  }
  control.wal_level = static_cast<WalLevel>(level);
  const auto read = [&](size_t offset, int32_t* value) {
    *value = static_cast<int32_t>(number(offset));
    return *value >= 0;
  };
  if (!read(kMaxConnectionsOffset, &control.max_connections) ||
      !read(kMaxWorkersOffset, &control.max_worker_processes) ||
      !read(kMaxSendersOffset, &control.max_wal_senders) ||
      !read(kMaxPreparedOffset, &control.max_prepared_transactions) ||
      !read(kMaxLocksOffset, &control.max_locks_per_transaction)) {
    return Corrupt("has a negative setting");
  }
  return control;
}

}  // namespace pbkfs
