#include "fs/diff/diff_summary.h"

#include <fcntl.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/status.h"
#include "fs/diff/binding.h"
#include "fs/diff/diff_directory.h"
#include "fs/diff/limits.h"
#include "fs/diff/log_reader.h"
#include "fs/diff/records.h"

namespace pbkfs {
namespace {

int64_t MtimeOf(const struct stat& attributes) {
  return attributes.st_mtim.tv_sec * int64_t{1000000000} + attributes.st_mtim.tv_nsec;
}

int64_t AllocatedBytesIn(IoDir& directory) {
  int64_t bytes = 0;
  const auto names = directory.List();
  if (!names.ok()) return 0;
  for (const std::string& name : *names) {
    const auto file = directory.OpenFile(name, O_RDONLY | O_NONBLOCK, 0);
    if (!file.ok()) continue;  // A directory, or removed in between.
    if (const auto attributes = (*file)->Stat(); attributes.ok()) {
      bytes += attributes->st_blocks * int64_t{512};
    }
  }
  return bytes;
}

// Whether the log ends with CleanUnmount. One look at its last bytes tells that; only where another
// epoch than the first might have sealed them is the log read.
absl::StatusOr<bool> LogEndsClean(IoFile& log, int64_t size) {
  std::vector<uint8_t> head(kLogHeaderBytes);
  PBKFS_ASSIGN_OR_RETURN(const size_t head_bytes, log.Read(0, absl::MakeSpan(head)));
  head.resize(head_bytes);
  PBKFS_ASSIGN_OR_RETURN(const LogHeader header, DecodeLogHeader(head));
  const auto tail_bytes =
      static_cast<int64_t>(EncodeRecord(CleanUnmountRecord(), 0, 0, header.seed).size());
  if (size < static_cast<int64_t>(kLogHeaderBytes) + tail_bytes) return false;
  std::vector<uint8_t> tail(static_cast<size_t>(tail_bytes));
  PBKFS_ASSIGN_OR_RETURN(const size_t count, log.Read(size - tail_bytes, absl::MakeSpan(tail)));
  tail.resize(count);
  if (const auto last = DecodeRecord(tail, header.seed); last.ok()) {
    return std::holds_alternative<CleanUnmountRecord>(last->record);
  }
  if (count < kLogRecordHeaderBytes || LoadLittleEndian<uint16_t>(tail.data() + 24) !=
                                           static_cast<uint16_t>(RecordType::kCleanUnmount)) {
    return false;
  }
  if (size > kMaxCheckedLogBytes) return false;
  PBKFS_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, ReadLog(log));
  PBKFS_ASSIGN_OR_RETURN(const ParsedLog parsed, ParseLog(bytes));
  return EndsClean(parsed);
}

DiffCondition ConditionOf(const absl::Status& status) {
  return absl::IsUnimplemented(status) ? DiffCondition::kUnsupported : DiffCondition::kDamaged;
}

void LookAtLog(IoDir& directory, DiffSummary* summary) {
  const auto log = directory.OpenFile(kLogName, O_RDONLY | O_NONBLOCK, 0);
  if (!log.ok()) {
    const bool is_new = ErrnoOf(log.status()) == ENOENT && !summary->binding->prepared();
    summary->condition = is_new ? DiffCondition::kNew : DiffCondition::kDamaged;
    return;
  }
  const auto attributes = (*log)->Stat();
  if (!attributes.ok() || !S_ISREG(attributes->st_mode)) {
    summary->condition = DiffCondition::kDamaged;
    return;
  }
  summary->last_use = MtimeOf(*attributes);
  const auto clean = LogEndsClean(**log, attributes->st_size);
  summary->condition = !clean.ok() ? ConditionOf(clean.status())
                       : *clean    ? DiffCondition::kClean
                                   : DiffCondition::kUnclean;
}

}  // namespace

absl::StatusOr<std::optional<DiffSummary>> ReadDiffSummary(Io& io, const std::string& path) {
  PBKFS_ASSIGN_OR_RETURN(const auto directory, io.OpenDir(path));
  PBKFS_ASSIGN_OR_RETURN(const bool half_deleted, IsHalfDeleted(*directory));
  const char* const binding_name = half_deleted ? kDeletedName : kBindingName;
  const auto binding_file = directory->OpenFile(binding_name, O_RDONLY | O_NONBLOCK, 0);
  if (!binding_file.ok() && ErrnoOf(binding_file.status()) == ENOENT) {
    return std::optional<DiffSummary>();
  }
  DiffSummary summary;
  if (binding_file.ok()) {
    if (const auto attributes = (*binding_file)->Stat(); attributes.ok()) {
      summary.last_use = MtimeOf(*attributes);
    }
  }
  if (const auto locked = IsDiffLocked(*directory); locked.ok()) summary.in_use = *locked;
  const auto binding = ReadBinding(*directory, binding_name);
  if (binding.ok() && binding->has_value()) summary.binding = **binding;
  if (half_deleted) {
    summary.condition = DiffCondition::kHalfDeleted;
  } else if (summary.binding.has_value()) {
    LookAtLog(*directory, &summary);
  } else {
    summary.condition = ConditionOf(binding.status());
  }
  summary.allocated_bytes = AllocatedBytesIn(*directory);
  for (const char* name : {kDataName, kTrashName}) {
    if (const auto subdirectory = directory->OpenDir(name); subdirectory.ok()) {
      summary.allocated_bytes += AllocatedBytesIn(**subdirectory);
    }
  }
  return std::optional<DiffSummary>(std::move(summary));
}

}  // namespace pbkfs
