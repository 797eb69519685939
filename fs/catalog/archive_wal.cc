#include "fs/catalog/archive_wal.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "fs/base/status.h"

namespace pbkfs {
namespace {

absl::Status Unreachable(absl::string_view message) {
  return ReasonError(absl::StatusCode::kOutOfRange, reason::kTargetUnreachable, message);
}

// The newest timeline that a server would find: it asks for one history file after the other.
uint32_t FindNewest(const WalArchive* archive, uint32_t timeline) {
  if (archive == nullptr) return timeline;
  while (timeline < UINT32_MAX && archive->Find(TimelineHistoryName(timeline + 1)).ok()) ++timeline;
  return timeline;
}

}  // namespace

ArchiveWal::ArchiveWal(const WalArchive* archive, WalSource* backup, TimelinePath path,
                       uint32_t segment_bytes)
    : archive_(archive), backup_(backup), path_(std::move(path)), segment_bytes_(segment_bytes) {}

absl::Status ArchiveWal::OpenArchived(uint32_t timeline, uint64_t number) {
  const std::string name = WalSegmentName(timeline, number, segment_bytes_);
  if (open_ != nullptr && name == open_name_) return absl::OkStatus();
  open_.reset();
  if (archive_ == nullptr)
    return absl::NotFoundError(absl::StrCat("there is no archive for ", name));
  PBKFS_ASSIGN_OR_RETURN(const ArchivedFile file, archive_->Find(name));
  PBKFS_ASSIGN_OR_RETURN(open_, archive_->Open(file));
  open_name_ = name;
  return absl::OkStatus();
}

absl::Status ArchiveWal::ReadOf(const TimelineSpan& span, uint64_t number, uint32_t offset,
                                absl::Span<uint8_t> out) {
  absl::Status status = OpenArchived(span.timeline, number);
  if (status.ok()) {
    status = open_->ReadAt(offset, out, nullptr);
  } else if (absl::IsNotFound(status)) {
    const absl::Status own = backup_->ReadSegment(span.timeline, number, offset, out);
    if (!absl::IsNotFound(own)) status = own;
  }
  if (!status.ok()) return status;
  // What this timeline wrote behind its end is not on the path.
  const Lsn begin = number * segment_bytes_ + offset;
  if (span.end < begin + out.size()) {
    const Lsn kept = std::max(span.end, begin) - begin;
    std::fill(out.begin() + static_cast<ptrdiff_t>(kept), out.end(), 0);
  }
  return absl::OkStatus();
}

absl::Status ArchiveWal::ReadSegment(uint32_t, uint64_t number, uint32_t offset,
                                     absl::Span<uint8_t> out) {
  const Lsn begin = number * segment_bytes_;
  absl::Status missing = absl::NotFoundError("the segment lies on no timeline");
  bool first = true;
  for (auto span = path_.rbegin(); span != path_.rend(); ++span) {
    if (span->begin >= begin + segment_bytes_ || span->end <= begin) continue;
    const absl::Status status = ReadOf(*span, number, offset, out);
    if (!absl::IsNotFound(status)) {
      if (status.ok()) missing_.clear();
      return status;
    }
    if (std::exchange(first, false)) {
      missing = status;
      missing_ = WalSegmentName(span->timeline, number, segment_bytes_);
    }
  }
  return missing;
}

absl::StatusOr<TimelinePath> FindTimelinePath(const WalArchive* archive, uint32_t timeline,
                                              Lsn stop, absl::string_view wanted) {
  uint32_t last = timeline;
  if (wanted == "latest") {
    last = FindNewest(archive, timeline);
  } else if (wanted != "current" && !absl::SimpleAtoi(wanted, &last)) {
    return absl::InvalidArgumentError(absl::StrCat("'", wanted, "' is no timeline"));
  }
  if (last == timeline) return TimelinePath{TimelineSpan{timeline, 0, kMaxLsn}};
  absl::StatusOr<std::string> text =
      absl::NotFoundError(absl::StrCat("there is no archive for ", TimelineHistoryName(last)));
  if (archive != nullptr) text = archive->ReadHistory(last);
  if (absl::IsNotFound(text.status())) {
    return Unreachable(absl::StrCat("timeline ", last, " is not known: ", text.status().message(),
                                    "; the backup is on timeline ", timeline));
  }
  if (!text.ok()) return text.status();
  PBKFS_ASSIGN_OR_RETURN(TimelinePath path, ParseTimelineHistory(*text, last));
  const auto own = std::find_if(path.begin(), path.end(), [&](const TimelineSpan& span) {
    return span.timeline == timeline;
  });
  if (own == path.end() || own->end < stop) {
    return Unreachable(
        absl::StrCat("timeline ", last, " does not lead through the end of the backup at ",
                     FormatLsn(stop), " on timeline ", timeline,
                     own == path.end() ? std::string()
                                       : absl::StrCat(", which it left at ", FormatLsn(own->end)),
                     "; choose an older backup, or another timeline"));
  }
  path.erase(path.begin(), own);
  path.front().begin = 0;
  return path;
}

}  // namespace pbkfs
