// Reads the bytes of a log back into records, and tells the end of a log from damage (FORMAT.md,
// "Recovery", 2).
#ifndef PBKFS_FS_DIFF_LOG_READER_H_
#define PBKFS_FS_DIFF_LOG_READER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "fs/base/io.h"
#include "fs/diff/records.h"

namespace pbkfs {

// The valid records of a log, and how it ends.
struct ParsedLog {
  LogHeader header;
  std::vector<DecodedRecord> records;
  uint64_t seed = 0;          // Of the last epoch.
  int64_t end = 0;            // After the last valid record.
  int64_t durable_to = 0;     // The highest that a valid record tells.
  bool damaged_tail = false;  // Something that is not a record follows.
  bool late_record = false;   // A valid record follows the damage.
};

// DATA_LOSS (DIFF_CORRUPT): the log says something impossible.
absl::Status CorruptLog(absl::string_view what);

// The whole file.
absl::StatusOr<std::vector<uint8_t>> ReadLog(IoFile& file);
// The first `end` bytes of it.
absl::StatusOr<std::vector<uint8_t>> ReadLog(IoFile& file, int64_t begin, int64_t end);

absl::StatusOr<ParsedLog> ParseLog(absl::Span<const uint8_t> bytes);

// Appends the records that fill `bytes`, in the epoch `seed`, to `records`. DATA_LOSS where they
// don't.
absl::Status ParseRecords(absl::Span<const uint8_t> bytes, uint64_t seed,
                          std::vector<DecodedRecord>* records);

// A log begins with a checkpoint, which was durable before its file got its name: nothing of it may
// be missing.
absl::Status CheckCheckpoint(const ParsedLog& log);

// Whether everything that the log says is durable, data files too: it ends with CleanUnmount.
bool EndsClean(const ParsedLog& log);
// Whether what follows the last valid record of a log of `bytes` bytes may be how it ended.
// DATA_LOSS where records that were confirmed are gone, or, with the page cache `intact`, more than
// the last one.
absl::Status CheckTail(const ParsedLog& log, int64_t bytes, bool intact);
// What the last Open left behind.
PageCacheEvidence LastEvidence(const ParsedLog& log);

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_LOG_READER_H_
