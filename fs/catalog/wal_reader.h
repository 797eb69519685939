// Reads the records of PostgreSQL's write-ahead log, majors 10 to 18: pages with short and long
// headers, records that continue over pages and segments, segments that were switched early,
// records that were given up and overwritten. Each record's CRC-32C is checked; what lies behind
// the first record that does not check out is not WAL, as for PostgreSQL's own recovery.
//
// Layout after PostgreSQL's access/xlog_internal.h and xlogrecord.h; all integers little-endian.
//
//   page header    magic u16, flags u16, timeline u32, LSN of the page u64, bytes that continue a
//                  record u32, padding u32; on a segment's first page also system identifier u64,
//                  segment size u32, page size u32
//   record header  length u32, xid u32, LSN of the previous record u64, info u8, resource manager
//                  u8, padding u16, CRC u32 over what follows the header and then the header
//
// Untrusted input: memory is bounded by limits.h, whatever lengths the bytes claim. Not
// thread-safe.
#ifndef PBKFS_FS_CATALOG_WAL_READER_H_
#define PBKFS_FS_CATALOG_WAL_READER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fs/catalog/backup_control.h"

namespace pbkfs {

// Where segments come from: a backup, an archive.
class WalSource {
 public:
  virtual ~WalSource() = default;
  // Fills `out` from `offset` of segment `number` (LSN / segment size) of `timeline`; never asks
  // for bytes behind the segment's end. NOT_FOUND where there is no such segment, DATA_LOSS where
  // it is too short.
  virtual absl::Status ReadSegment(uint32_t timeline, uint64_t number, uint32_t offset,
                                   absl::Span<uint8_t> out) = 0;
};

// "000000010000000A000000FE"
std::string WalSegmentName(uint32_t timeline, uint64_t number, uint32_t segment_bytes);

struct WalStart {
  Lsn begin = 0;  // Of the first record.
  uint32_t timeline = 1;
  uint32_t segment_bytes = 16u << 20;
  int server_major = 0;
  uint64_t system_identifier = 0;  // 0 = any.
};

struct WalRecord {
  Lsn begin = 0;
  uint32_t xid = 0;  // 0 = of no transaction.
  uint8_t resource_manager = 0;
  uint8_t info = 0;
  uint64_t payload_bytes = 0;  // What follows the header.
  // Its first kMaxWalPayloadBytes, until the next call.
  absl::Span<const uint8_t> payload;
};

class WalReader {
 public:
  // `source` outlives the reader. INVALID_ARGUMENT for impossible numbers, UNIMPLEMENTED
  // (UNSUPPORTED_FORMAT) for a major version whose WAL is not known.
  static absl::StatusOr<WalReader> Create(WalSource& source, const WalStart& start);

  // The next record. DATA_LOSS where there is none, NOT_FOUND where the segment is missing, or the
  // source's error; the reader then stays where it is.
  absl::StatusOr<WalRecord> Next();
  // Behind the last record: where the next one would begin, or the page header before it.
  Lsn position() const { return next_; }

 private:
  struct Page {
    Lsn lsn = 0;
    const uint8_t* data = nullptr;  // Null = none loaded.
    uint32_t header_bytes = 0;
    uint16_t flags = 0;
    uint32_t continued_bytes = 0;
  };
  enum class Outcome { kRecord, kOverwritten };

  WalReader(WalSource& source, const WalStart& start, uint16_t magic);

  absl::Status LoadPage(Lsn lsn);
  absl::Status LoadWindow(Lsn page_lsn);
  absl::Status CheckPageHeader(Page* page) const;
  absl::Status FindBegin(Lsn* begin);
  absl::StatusOr<Outcome> ReadRecord(Lsn begin);
  absl::StatusOr<Outcome> EnterContinuation(Lsn page_lsn, uint64_t missing);
  absl::Status CheckRecord(Lsn begin, uint32_t payload_crc) const;

  WalSource* source_;
  WalStart start_;
  uint16_t magic_;
  Lsn next_;
  Lsn previous_ = 0;  // The last record's begin; 0 = none yet.
  Page page_;
  Lsn window_begin_ = 0;  // What window_ holds begins here.
  std::vector<uint8_t> window_;
  std::vector<uint8_t> header_;   // Of the record that is being read.
  std::vector<uint8_t> payload_;  // Its beginning.
  uint64_t payload_bytes_ = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_WAL_READER_H_
