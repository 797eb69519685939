#include "fs/catalog/wal_reader.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fs/base/bytes.h"
#include "fs/base/crc32c.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

constexpr uint32_t kShortHeaderBytes = 24;
constexpr uint32_t kLongHeaderBytes = 40;
constexpr uint32_t kRecordHeadBytes = 24;
constexpr uint32_t kCrcOffset = 20;  // The record's CRC covers its header up to here.
constexpr uint64_t kAlignment = 8;

// Flags of a page.
constexpr uint16_t kContinuesRecord = 0x0001;
constexpr uint16_t kLongHeader = 0x0002;
constexpr uint16_t kOverwritesRecord = 0x0008;
constexpr uint16_t kAllFlags = 0x000F;

constexpr uint8_t kXlogManager = 0;
constexpr uint8_t kInfoMask = 0xF0;
constexpr uint8_t kSwitchInfo = 0x40;

struct PageMagic {
  int server_major;
  uint16_t magic;
};
constexpr PageMagic kMagics[] = {
    {10, 0xD097}, {11, 0xD098}, {12, 0xD101}, {13, 0xD106}, {14, 0xD10D},
    {15, 0xD110}, {16, 0xD113}, {17, 0xD116}, {18, 0xD118},
};

absl::Status Damaged(Lsn lsn, absl::string_view what) {
  return absl::DataLossError(absl::StrCat("WAL at ", FormatLsn(lsn), ": ", what));
}

Lsn PageBegin(Lsn lsn) { return lsn - lsn % kWalPageBytes; }

}  // namespace

std::string WalSegmentName(uint32_t timeline, uint64_t number, uint32_t segment_bytes) {
  const uint64_t per_log = (uint64_t{1} << 32) / segment_bytes;
  return absl::StrFormat("%08X%08X%08X", timeline, static_cast<uint32_t>(number / per_log),
                         static_cast<uint32_t>(number % per_log));
}

WalReader::WalReader(WalSource& source, const WalStart& start, uint16_t magic)
    : source_(&source), start_(start), magic_(magic), next_(start.begin) {}

absl::StatusOr<WalReader> WalReader::Create(WalSource& source, const WalStart& start) {
  const uint32_t size = start.segment_bytes;
  if (size < kMinWalSegmentBytes || size > kMaxWalSegmentBytes || (size & (size - 1)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(size, " is no size of a WAL segment"));
  }
  if (start.begin == 0 || start.begin % kAlignment != 0 || start.begin > kMaxLsn) {
    return absl::InvalidArgumentError(
        absl::StrCat("no WAL record can begin at ", FormatLsn(start.begin)));
  }
  for (const PageMagic& known : kMagics) {
    if (known.server_major == start.server_major) return WalReader(source, start, known.magic);
  }
  return ReasonError(absl::StatusCode::kUnimplemented, reason::kUnsupportedFormat,
                     absl::StrCat("the WAL of PostgreSQL ", start.server_major,
                                  " is not known to this version of pbkfs"));
}

absl::StatusOr<WalRecord> WalReader::Next() {
  while (true) {
    Lsn begin = 0;
    PBKFS_RETURN_IF_ERROR(FindBegin(&begin));
    PBKFS_ASSIGN_OR_RETURN(const Outcome outcome, ReadRecord(begin));
    if (outcome == Outcome::kOverwritten) continue;  // next_ has moved on.
    WalRecord record;
    record.begin = begin;
    record.xid = LoadLittleEndian<uint32_t>(header_.data() + 4);
    record.info = header_[16];
    record.resource_manager = header_[17];
    record.payload_bytes = payload_bytes_;
    record.payload = payload_;
    previous_ = begin;
    if (record.resource_manager == kXlogManager && (record.info & kInfoMask) == kSwitchInfo) {
      // The rest of the segment is empty.
      next_ += (start_.segment_bytes - next_ % start_.segment_bytes) % start_.segment_bytes;
    }
    return record;
  }
}

// Where the record at next_ begins: behind the page's header if next_ is the page's begin.
absl::Status WalReader::FindBegin(Lsn* begin) {
  if (next_ > kMaxLsn) return Damaged(next_, "the log ends");
  PBKFS_RETURN_IF_ERROR(LoadPage(next_));
  *begin = next_;
  if (next_ == page_.lsn) {
    *begin += page_.header_bytes;
  } else if (next_ - page_.lsn < page_.header_bytes) {
    return Damaged(next_, "lies within a page header");
  }
  if (*begin == page_.lsn + page_.header_bytes && (page_.flags & kContinuesRecord) != 0) {
    return Damaged(*begin, "the page continues a record that does not lead here");
  }
  return absl::OkStatus();
}

absl::StatusOr<WalReader::Outcome> WalReader::ReadRecord(Lsn begin) {
  // Aligned, so the length is in one piece.
  const uint32_t total = LoadLittleEndian<uint32_t>(page_.data + (begin - page_.lsn));
  if (total < kRecordHeadBytes || total > kMaxWalRecordBytes) {
    return Damaged(begin, absl::StrCat("no record has ", total, " bytes"));
  }
  header_.clear();
  payload_.clear();
  payload_bytes_ = total - kRecordHeadBytes;
  uint32_t crc = 0;
  Lsn position = begin;
  for (uint64_t done = 0; done < total;) {
    if (position == page_.lsn + kWalPageBytes) {
      PBKFS_ASSIGN_OR_RETURN(const Outcome outcome, EnterContinuation(position, total - done));
      if (outcome == Outcome::kOverwritten) return outcome;
      position += page_.header_bytes;
    }
    const uint8_t* data = page_.data + (position - page_.lsn);
    uint64_t count = std::min<uint64_t>(total - done, page_.lsn + kWalPageBytes - position);
    if (done < kRecordHeadBytes) {
      count = std::min<uint64_t>(count, kRecordHeadBytes - done);
      header_.insert(header_.end(), data, data + count);
    } else {
      crc = Crc32c(crc, data, count);
      const uint64_t kept = std::min<uint64_t>(count, kMaxWalPayloadBytes - payload_.size());
      payload_.insert(payload_.end(), data, data + kept);
    }
    position += count;
    done += count;
    // Before a long payload is read for nothing.
    if (done == kRecordHeadBytes && previous_ != 0 &&
        LoadLittleEndian<uint64_t>(header_.data() + 8) != previous_) {
      return Damaged(begin, "the record does not follow the one before it");
    }
  }
  PBKFS_RETURN_IF_ERROR(CheckRecord(begin, crc));
  next_ = position + (kAlignment - position % kAlignment) % kAlignment;
  return Outcome::kRecord;
}

absl::StatusOr<WalReader::Outcome> WalReader::EnterContinuation(Lsn page_lsn, uint64_t missing) {
  PBKFS_RETURN_IF_ERROR(LoadPage(page_lsn));
  if ((page_.flags & kOverwritesRecord) != 0) {
    // The server died in the middle of the record, and began anew here.
    next_ = page_lsn;
    return Outcome::kOverwritten;
  }
  if ((page_.flags & kContinuesRecord) == 0 || page_.continued_bytes != missing) {
    return Damaged(page_lsn, "the page does not continue the record before it");
  }
  return Outcome::kRecord;
}

absl::Status WalReader::CheckRecord(Lsn begin, uint32_t payload_crc) const {
  const uint32_t crc = Crc32c(payload_crc, header_.data(), kCrcOffset);
  if (crc != LoadLittleEndian<uint32_t>(header_.data() + kCrcOffset)) {
    return Damaged(begin, "the record's CRC is wrong");
  }
  return absl::OkStatus();
}

absl::Status WalReader::LoadPage(Lsn lsn) {
  const Lsn page_lsn = PageBegin(lsn);
  if (page_.data != nullptr && page_.lsn == page_lsn) return absl::OkStatus();
  page_.data = nullptr;
  if (page_lsn < window_begin_ || page_lsn + kWalPageBytes > window_begin_ + window_.size()) {
    PBKFS_RETURN_IF_ERROR(LoadWindow(page_lsn));
  }
  Page page;
  page.lsn = page_lsn;
  page.data = window_.data() + (page_lsn - window_begin_);
  PBKFS_RETURN_IF_ERROR(CheckPageHeader(&page));
  page_ = page;
  return absl::OkStatus();
}

absl::Status WalReader::LoadWindow(Lsn page_lsn) {
  const auto offset = static_cast<uint32_t>(page_lsn % start_.segment_bytes);
  const uint64_t wanted = std::min<uint64_t>(kWalWindowBytes, start_.segment_bytes - offset);
  window_.resize(wanted);
  window_begin_ = page_lsn;
  absl::Status status = source_->ReadSegment(start_.timeline, page_lsn / start_.segment_bytes,
                                             offset, absl::MakeSpan(window_));
  if (!status.ok()) window_.clear();
  return status;
}

absl::Status WalReader::CheckPageHeader(Page* page) const {
  const uint8_t* data = page->data;
  const auto magic = LoadLittleEndian<uint16_t>(data);
  page->flags = LoadLittleEndian<uint16_t>(data + 2);
  page->continued_bytes = LoadLittleEndian<uint32_t>(data + 16);
  page->header_bytes = (page->flags & kLongHeader) != 0 ? kLongHeaderBytes : kShortHeaderBytes;
  const bool first = page->lsn % start_.segment_bytes == 0;
  if (magic != magic_) return Damaged(page->lsn, absl::StrFormat("page magic 0x%04X", magic));
  if ((page->flags & ~kAllFlags) != 0 || first != ((page->flags & kLongHeader) != 0)) {
    return Damaged(page->lsn, absl::StrFormat("page flags 0x%04X", page->flags));
  }
  const auto lsn = LoadLittleEndian<uint64_t>(data + 8);
  if (lsn != page->lsn) {
    return Damaged(page->lsn, absl::StrCat("the page is that of ", FormatLsn(lsn)));
  }
  if (!first) return absl::OkStatus();
  const auto system_identifier = LoadLittleEndian<uint64_t>(data + 24);
  if (start_.system_identifier != 0 && system_identifier != start_.system_identifier) {
    return Damaged(page->lsn, absl::StrCat("the segment is of another cluster (system identifier ",
                                           system_identifier, ")"));
  }
  if (LoadLittleEndian<uint32_t>(data + 32) != start_.segment_bytes ||
      LoadLittleEndian<uint32_t>(data + 36) != kWalPageBytes) {
    return Damaged(page->lsn, "the segment has another segment size or page size");
  }
  return absl::OkStatus();
}

}  // namespace pbkfs
