#include "fs/image/paged_file.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/bytes.h"
#include "fs/base/status.h"
#include "fs/catalog/beneath.h"
#include "fs/catalog/limits.h"
#include "fs/image/limits.h"
#include "fs/image/page_checksum.h"
#include "fs/image/page_codec.h"
#include "fs/image/page_errors.h"
#include "fs/image/stream_scan.h"

namespace pbkfs {
namespace {

constexpr size_t kStoredChecksumOffset = 8;

int64_t RecordEnd(const PageLocation& location) {
  return location.position + kRecordHeaderBytes + location.length;
}

}  // namespace

PagedImageFile::PagedImageFile(std::shared_ptr<const ImageCore> core, LowerIno ino,
                               const FileEntry& tip_entry, int64_t size)
    : core_(std::move(core)),
      ino_(ino),
      tip_entry_(tip_entry),
      stored_(core_->chain().members.size()),
      size_(size) {
  assert(tip_entry.IsPageStream() && tip_entry.size != 0 && size % kPageBytes == 0);
  for (const StoredPart* part : core_->chain().files.HistoryOf(tip_entry).parts) {
    stored_[part->member] = &part->entry;
  }
}

absl::Status PagedImageFile::ReadAt(int64_t offset, absl::Span<uint8_t> out, IoStats* stats) const {
  if (offset < 0 || offset > size_ || static_cast<int64_t>(out.size()) > size_ - offset) {
    return absl::OutOfRangeError(absl::StrCat("'", tip_entry_.path, "' has ", size_,
                                              " bytes; a read of ", out.size(), " bytes at ",
                                              offset, " lies outside"));
  }
  if (out.empty()) return absl::OkStatus();
  const absl::StatusOr<std::shared_ptr<const PageIndex>> index = core_->IndexOf(ino_, tip_entry_);
  if (!index.ok()) {
    return ReportPageError(stats,
                           absl::IsDataLoss(index.status()) && !ReasonOf(index.status()).empty()
                               ? IoCounter::kPageErrorsFormat
                               : IoCounter::kPageErrorsIo,
                           absl::StrCat("file '", tip_entry_.path, "'"), index.status());
  }
  const Request request{**index, out.size() < kCacheBypassBytes, stats};
  while (!out.empty()) {
    const int64_t plan_end = (offset / kPageBytes + kPlanBlocks) * kPageBytes;
    const size_t count = std::min(out.size(), static_cast<size_t>(plan_end - offset));
    PBKFS_RETURN_IF_ERROR(ReadBlocks(request, offset, out.first(count)));
    offset += static_cast<int64_t>(count);
    out.remove_prefix(count);
  }
  // After the reading: nothing that was read from a chain that is gone may be answered.
  const absl::Status state = core_->chain().State();
  if (state.ok()) return state;
  return ReportPageError(stats, IoCounter::kPageErrorsIo,
                         absl::StrCat("file '", tip_entry_.path, "'"), state);
}

absl::Status PagedImageFile::ReadBlocks(const Request& request, int64_t offset,
                                        absl::Span<uint8_t> out) const {
  thread_local std::vector<Wanted> wanted;
  wanted.clear();
  uint64_t hits = 0;
  while (!out.empty()) {
    const int64_t block = offset / kPageBytes;
    const auto in_page = static_cast<size_t>(offset % kPageBytes);
    const size_t count = std::min(out.size(), static_cast<size_t>(kPageBytes) - in_page);
    const absl::Span<uint8_t> part = out.first(count);
    const std::optional<PageLocation> location = request.index.Find(block);
    if (!location.has_value()) {
      memset(part.data(), 0, part.size());  // Below the file's length, and no member stores it.
    } else if (core_->caches().pages.Read(KeyOf(block), in_page, part)) {
      ++hits;
    } else {
      wanted.push_back({block, *location, in_page, part, false});
    }
    offset += static_cast<int64_t>(count);
    out.remove_prefix(count);
  }
  if (request.stats != nullptr) {
    if (hits > 0) request.stats->Add(IoCounter::kCacheHits, hits);
    if (!wanted.empty()) request.stats->Add(IoCounter::kCacheMisses, wanted.size());
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].done) continue;
    PBKFS_RETURN_IF_ERROR(ReadRun(request, absl::MakeSpan(wanted), i));
  }
  return absl::OkStatus();
}

absl::Status PagedImageFile::ReadRun(const Request& request, absl::Span<Wanted> wanted,
                                     size_t first) const {
  const uint32_t member = wanted[first].location.member;
  const int64_t begin = wanted[first].location.position;
  int64_t end = RecordEnd(wanted[first].location);
  size_t last = first;
  // Within a member, positions ascend with blocks; blocks of other members are skipped over.
  for (size_t i = first + 1; i < wanted.size(); ++i) {
    const PageLocation& next = wanted[i].location;
    if (next.member != member) continue;
    if (next.position - end > kMaxRunGapBytes || RecordEnd(next) - begin > kMaxRunBytes) break;
    end = RecordEnd(next);
    last = i;
  }

  absl::StatusOr<StoredFiles::FilePtr> file = core_->OpenStream(member, *stored_[member]);
  thread_local std::vector<uint8_t> buffer(kMaxRunBytes);
  const auto stored = absl::MakeSpan(buffer).first(static_cast<size_t>(end - begin));
  absl::Status status = file.status();
  if (status.ok()) status = ReadExactly((*file)->fd.get(), begin, stored);
  if (!status.ok()) {
    return ReportPageError(request.stats, IoCounter::kPageErrorsIo, Describe(wanted[first]),
                           status);
  }
  for (size_t i = first; i <= last; ++i) {
    Wanted& want = wanted[i];
    if (want.location.member != member) continue;
    const auto at = static_cast<size_t>(want.location.position - begin);
    const auto length = static_cast<size_t>(kRecordHeaderBytes + want.location.length);
    PBKFS_RETURN_IF_ERROR(DecodeRecord(request, want, stored.subspan(at, length)));
    want.done = true;
  }
  return absl::OkStatus();
}

absl::Status PagedImageFile::DecodeRecord(const Request& request, const Wanted& wanted,
                                          absl::Span<const uint8_t> record) const {
  thread_local std::vector<uint8_t> scratch(kPageBytes);
  const bool whole = wanted.out.size() == static_cast<size_t>(kPageBytes);
  uint8_t* const page = whole ? wanted.out.data() : scratch.data();
  IoCounter kind = IoCounter::kPageErrorsFormat;
  const std::string problem = DecodeChecked(wanted, record, page, kind);
  if (!problem.empty()) {
    return ReportPageError(request.stats, kind, Describe(wanted), problem);
  }
  if (!whole) memcpy(wanted.out.data(), page + wanted.offset, wanted.out.size());
  if (request.keep) core_->caches().pages.Insert(KeyOf(wanted.block), page);
  return absl::OkStatus();
}

std::string PagedImageFile::DecodeChecked(const Wanted& wanted, absl::Span<const uint8_t> record,
                                          uint8_t* page, IoCounter& kind) const {
  kind = IoCounter::kPageErrorsFormat;
  const auto block = LoadLittleEndian<uint32_t>(record.data());
  const auto length = LoadLittleEndian<int32_t>(record.data() + 4);
  if (block != wanted.block || length != wanted.location.length) {
    return absl::StrCat("the record is of block ", block, " with ", length,
                        " bytes, the index says block ", wanted.block, " with ",
                        wanted.location.length, " bytes");
  }
  const auto payload = record.subspan(kRecordHeaderBytes);
  const ChainMember& member = *core_->chain().members[wanted.location.member];
  CompressAlg algorithm = stored_[wanted.location.member]->compress_alg;
  if (!DecodeStoredPage(member.format, algorithm, payload, page)) {
    return absl::StrCat("the payload is not a page compressed with ", CompressAlgName(algorithm));
  }
  core_->caches().CountDecoded(algorithm, 1);
  kind = IoCounter::kPageErrorsChecksum;
  const uint16_t expected = wanted.location.checksum;
  if (expected == 0) {
    return IsZeroPage(page) ? std::string() : "the page should be all zeros, but is not";
  }
  const auto absolute = static_cast<uint32_t>(tip_entry_.segno * kSegmentBlocks + wanted.block);
  const uint16_t found = PageChecksum(page, absolute);
  if (found != expected) {
    return absl::StrCat("the page has checksum ", found, ", the index says ", expected);
  }
  // The checksum does not cover its own field in the page.
  const auto stored = LoadLittleEndian<uint16_t>(page + kStoredChecksumOffset);
  if (member.control.checksum_version == 0 || stored == expected) return std::string();
  return absl::StrCat("the page says that its checksum is ", stored, ", but it is ", expected);
}

std::string PagedImageFile::Describe(const Wanted& wanted) const {
  return absl::StrCat(core_->Describe(wanted.location.member, tip_entry_.path), ", block ",
                      wanted.block, " at position ", wanted.location.position);
}

}  // namespace pbkfs
