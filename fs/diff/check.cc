#include "fs/diff/check.h"

#include <fcntl.h>

#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/diff/binding.h"
#include "fs/diff/check_state.h"
#include "fs/diff/diff_directory.h"
#include "fs/diff/log_reader.h"
#include "fs/diff/page_cache_evidence.h"
#include "fs/diff/presumed_tree.h"
#include "fs/diff/recovery.h"

namespace pbkfs {
namespace {

constexpr char kMovedToTrash[] = "moved to trash/, which is emptied";

class Checker {
 public:
  Checker(Io& io, const std::string& path, const DiffCheckOptions& options)
      : io_(io), path_(path), options_(options) {}

  absl::StatusOr<DiffCheckReport> Run() {
    PBKFS_ASSIGN_OR_RETURN(directory_, io_.OpenDir(path_));
    PBKFS_RETURN_IF_ERROR(TakeBinding());
    PBKFS_RETURN_IF_ERROR(TakeLock());
    PBKFS_RETURN_IF_ERROR(CheckEntries());
    PBKFS_RETURN_IF_ERROR(OpenDirectory(kDataName, &data_));
    PBKFS_RETURN_IF_ERROR(OpenDirectory(kTrashName, &trash_));
    PBKFS_RETURN_IF_ERROR(CheckLog());
    PBKFS_RETURN_IF_ERROR(CheckTrash());
    if (options_.repair && findings().errors() == 0) PBKFS_RETURN_IF_ERROR(Repair());
    return std::move(report_);
  }

 private:
  DiffFindings& findings() { return report_.findings; }

  void Warn(absl::string_view code, std::string subject, std::string message,
            std::string remedy = "") {
    findings().Add({FindingSeverity::kWarning, std::string(code), std::move(subject),
                    std::move(message), std::move(remedy), false});
  }
  void Inform(absl::string_view code, std::string subject, std::string message) {
    findings().Add({FindingSeverity::kInfo, std::string(code), std::move(subject),
                    std::move(message), "", false});
  }
  void ErrorOf(absl::string_view code, std::string subject, const absl::Status& status) {
    findings().Error(code, std::move(subject), std::string(status.message()));
  }

  absl::Status TakeBinding() {
    auto binding = ReadBinding(*directory_);
    if (absl::IsUnimplemented(binding.status())) return binding.status();
    if (!binding.ok()) {
      ErrorOf("BINDING_DAMAGED", kBindingName, binding.status());
      return absl::OkStatus();
    }
    if (!binding->has_value()) return TakeMissingBinding();
    report_.binding = **binding;
    const v1::DiffBinding& found = *report_.binding;
    if (found.checksum() == 0) {
      Warn("BINDING_UNSEALED", kBindingName,
           "it has no checksum, so that damage of it is not seen");
    }
    if (found.instance().empty() || found.backup_id().empty() || found.list_hash().empty() ||
        found.stale_block_rule().empty()) {
      findings().Error("BINDING_DAMAGED", kBindingName, "it does not say what the diff belongs to");
    }
    return absl::OkStatus();
  }

  absl::Status TakeMissingBinding() {
    PBKFS_ASSIGN_OR_RETURN(const bool half_deleted, IsHalfDeleted(*directory_));
    if (half_deleted) return DiffIsHalfDeleted(path_);
    PBKFS_ASSIGN_OR_RETURN(const auto names, directory_->List());
    bool has_log = false;
    for (const std::string& name : names) has_log = has_log || name == kLogName;
    if (!has_log) return NotADiff(path_);
    findings().Error("BINDING_DAMAGED", kBindingName,
                     "it is missing, so that nothing tells what the diff belongs to");
    return absl::OkStatus();
  }

  // Held until the check is done, so that no mount begins meanwhile. The file is not made here: a
  // check changes nothing.
  absl::Status TakeLock() {
    auto lock = directory_->OpenFile(kLockName, O_RDWR, 0);
    if (!lock.ok() && ErrnoOf(lock.status()) == ENOENT) {
      Warn("LOCK_MISSING", kLockName, "the file is missing; the next mount makes it");
      return absl::OkStatus();
    }
    if (!lock.ok()) {
      ErrorOf("LOCK_DAMAGED", kLockName, lock.status());
      return absl::OkStatus();
    }
    PBKFS_ASSIGN_OR_RETURN(lock_, TakeDiffLock(*directory_, path_));
    return absl::OkStatus();
  }

  absl::Status CheckEntries() {
    PBKFS_ASSIGN_OR_RETURN(const auto names, directory_->List());
    for (const std::string& name : names) {
      if (name == kNewLogName || name == kNewBindingName) {
        Warn("LEFTOVER", name, "it was being written when the program ended", "removed");
        leftovers_.push_back(name);
      } else if (!IsDiffEntry(name)) {
        Warn("FOREIGN_ENTRY", name, "it is not of a diff; move it away");
      }
    }
    return absl::OkStatus();
  }

  // Null where the directory is missing, which is no damage as long as nothing should be in it.
  absl::Status OpenDirectory(const char* name, std::unique_ptr<IoDir>* out) {
    auto opened = directory_->OpenDir(name);
    if (opened.ok()) {
      *out = *std::move(opened);
    } else if (ErrnoOf(opened.status()) == ENOENT) {
      Warn("DIRECTORY_MISSING", name, "the directory is missing; the next mount makes it");
    } else {
      ErrorOf("DIRECTORY_DAMAGED", name, opened.status());
    }
    return absl::OkStatus();
  }

  absl::Status CheckLog() {
    auto file = directory_->OpenFile(kLogName, O_RDONLY | O_NONBLOCK, 0);
    if (!file.ok() && ErrnoOf(file.status()) == ENOENT) return CheckWithoutLog();
    if (!file.ok()) {
      ErrorOf("LOG_DAMAGED", kLogName, file.status());
      return absl::OkStatus();
    }
    PBKFS_ASSIGN_OR_RETURN(const struct stat attributes, (*file)->Stat());
    if (!S_ISREG(attributes.st_mode)) {
      findings().Error("LOG_DAMAGED", kLogName, "it is not a file");
      return absl::OkStatus();
    }
    report_.log_bytes = attributes.st_size;
    if (attributes.st_size > kMaxCheckedLogBytes) {
      findings().Error("LOG_TOO_LARGE", kLogName,
                       "it is too long to be checked; a mount makes it short, if it is whole");
      return absl::OkStatus();
    }
    auto bytes = ReadLog(**file);
    if (!bytes.ok()) {
      ErrorOf("LOG_UNREADABLE", kLogName, bytes.status());
      return absl::OkStatus();
    }
    const auto log = ParseLog(*bytes);
    if (absl::IsUnimplemented(log.status())) return log.status();
    if (!log.ok()) {
      ErrorOf("LOG_DAMAGED", kLogName, log.status());
      return absl::OkStatus();
    }
    return CheckRecords(*log, static_cast<int64_t>(bytes->size()));
  }

  // A diff that was made and never mounted has no log.
  absl::Status CheckWithoutLog() {
    std::vector<std::string> names;
    if (data_ != nullptr) {
      PBKFS_ASSIGN_OR_RETURN(names, data_->List());
    }
    if (!report_.binding.has_value() || report_.binding->prepared() || !names.empty()) {
      findings().Error("LOG_DAMAGED", kLogName, "it is missing; nothing tells what the data are");
    } else {
      Inform("NEVER_MOUNTED", "", "the diff was made and never mounted");
    }
    return absl::OkStatus();
  }

  absl::Status CheckRecords(const ParsedLog& log, int64_t bytes) {
    if (const absl::Status status = CheckCheckpoint(log); !status.ok()) {
      ErrorOf("LOG_DAMAGED", kLogName, status);
      return absl::OkStatus();
    }
    const bool clean = EndsClean(log);
    const bool intact = clean || EvidenceStands(io_, *directory_, LastEvidence(log));
    const ShutdownKind shutdown = clean    ? ShutdownKind::kClean
                                  : intact ? ShutdownKind::kProcessDied
                                           : ShutdownKind::kCacheLost;
    report_.shutdown = shutdown;
    if (const absl::Status status = CheckTail(log, bytes, intact); !status.ok()) {
      ErrorOf("LOG_DAMAGED", kLogName, status);
      return absl::OkStatus();
    }
    if (!clean) {
      Warn("NOT_CLEAN", kLogName,
           absl::StrCat("the diff was not unmounted; ",
                        intact ? "nothing that was acknowledged is lost"
                               : "what was synced counts, the rest is lost",
                        ". Mount it once: that finishes what was begun"));
    }
    if (bytes > log.end) {
      Warn(
          "LOG_TAIL", kLogName,
          absl::StrCat(bytes - log.end, " bytes follow the last record; the next mount cuts them"));
    }
    std::optional<PresumedTree> presumed;
    if (options_.lower == nullptr) {
      presumed.emplace(log.records);
      for (const LowerIno ino : presumed->contradictions()) {
        findings().Error("IMAGE_CONTRADICTION", absl::StrCat("inode ", ino),
                         "the log gives it two names in the image");
      }
    }
    const LowerTree& lower = presumed.has_value() ? *presumed : *options_.lower;
    const LogProof proof = CollectProof(log.records);
    const v1::DiffBinding binding = report_.binding.value_or(v1::DiffBinding());
    Replayer replayer({lower, binding.owner_uid(), binding.owner_gid()}, proof, shutdown);
    if (const absl::Status status = replayer.Run(log.records); !status.ok()) {
      ErrorOf("LOG_CONTRADICTION", kLogName, status);
      return absl::OkStatus();
    }
    CheckState(replayer.state(), lower, options_.lower != nullptr, &findings());
    return CheckDataFiles(replayer);
  }

  absl::Status CheckDataFiles(Replayer& replayer) {
    absl::flat_hash_set<std::string> known;
    for (const auto& [ino, inode] : replayer.state().inodes) {
      ++report_.inodes;
      report_.present_blocks += inode->layout.present.size();
      if (!inode->layout.has_data) continue;
      ++report_.data_files;
      known.insert(DataFileName(ino));
      PBKFS_RETURN_IF_ERROR(CheckDataFile(*inode, replayer.Lost(ino)));
    }
    if (data_ == nullptr) return absl::OkStatus();
    PBKFS_ASSIGN_OR_RETURN(const auto names, data_->List());
    for (const std::string& name : names) {
      if (known.contains(name)) continue;
      // What a mount will make of it depends on what survived a crash; and a mount learns from the
      // name which numbers were given away.
      uint64_t ino = 0;
      const bool removable = report_.shutdown == ShutdownKind::kClean &&
                             (!absl::SimpleHexAtoi(name, &ino) || ino < replayer.state().next_ino);
      Warn("DATA_UNKNOWN", absl::StrCat(kDataName, "/", name),
           absl::StrCat("the log does not know this file",
                        removable ? "" : "; the next mount moves it to trash/"),
           removable ? kMovedToTrash : "");
      if (removable) unknown_.push_back(name);
    }
    return absl::OkStatus();
  }

  absl::Status CheckDataFile(const InodeState& inode, bool lost) {
    const FileLayout& layout = inode.layout;
    const std::string name = DataFileName(inode.ino);
    const std::string subject = absl::StrCat(kDataName, "/", name);
    absl::StatusOr<std::unique_ptr<IoFile>> file =
        data_ == nullptr ? ErrnoError(ENOENT, subject)
                         : data_->OpenFile(name, O_RDONLY | O_NONBLOCK, 0);
    if (!file.ok() && ErrnoOf(file.status()) == ENOENT) {
      // As recovery has it: a file that was never synced may be lost together with its entry.
      if (lost && layout.synced_through < layout.data_file) {
        Inform("DATA_LOST", subject, "the file was never synced, and is lost");
      } else {
        findings().Error("DATA_MISSING", subject, "the log says that it exists");
      }
      return absl::OkStatus();
    }
    if (!file.ok()) {
      ErrorOf("DATA_UNREADABLE", subject, file.status());
      return absl::OkStatus();
    }
    PBKFS_ASSIGN_OR_RETURN(const struct stat attributes, (*file)->Stat());
    if (!S_ISREG(attributes.st_mode)) {
      findings().Error("DATA_KIND", subject, "it is not a file");
    } else if (attributes.st_size > kMaxFileBytes) {
      findings().Error("DATA_SIZE", subject, "it is longer than a file can be");
    } else if (attributes.st_size < layout.data_bytes) {
      findings().Error("DATA_SIZE", subject,
                       absl::StrCat("it has ", attributes.st_size, " bytes, and ",
                                    layout.data_bytes, " were written"));
    } else if (attributes.st_size > layout.size && report_.shutdown == ShutdownKind::kClean) {
      Warn("DATA_SIZE", subject,
           absl::StrCat("it has ", attributes.st_size, " bytes, and the file had ", layout.size,
                        " when it was unmounted; a mount shows them all"));
    }
    return absl::OkStatus();
  }

  absl::Status CheckTrash() {
    if (trash_ == nullptr) return absl::OkStatus();
    PBKFS_ASSIGN_OR_RETURN(const auto names, trash_->List());
    if (names.empty()) return absl::OkStatus();
    Warn("TRASH", kTrashName,
         absl::StrCat(names.size(), " data files that the log did not know are still there"),
         "removed");
    return absl::OkStatus();
  }

  // Only what no state of the diff, now or after a recovery, needs.
  absl::Status Repair() {
    for (const std::string& name : leftovers_) PBKFS_RETURN_IF_ERROR(directory_->Remove(name));
    if (!unknown_.empty()) {
      if (trash_ == nullptr) {
        PBKFS_RETURN_IF_ERROR(directory_->MakeDir(kTrashName, 0700));
        PBKFS_ASSIGN_OR_RETURN(trash_, directory_->OpenDir(kTrashName));
      }
      for (const std::string& name : unknown_) {
        PBKFS_RETURN_IF_ERROR(data_->Rename(name, *trash_, name));
      }
      // A file that came back under its name would pass for one that is made later.
      PBKFS_RETURN_IF_ERROR(data_->Sync());
    }
    if (trash_ != nullptr) PBKFS_RETURN_IF_ERROR(RemoveAllIn(*trash_));
    PBKFS_RETURN_IF_ERROR(directory_->Sync());
    for (DiffFinding& finding : findings().list()) finding.repaired = !finding.remedy.empty();
    return absl::OkStatus();
  }

  Io& io_;
  const std::string& path_;
  const DiffCheckOptions& options_;
  DiffCheckReport report_;
  std::unique_ptr<IoDir> directory_;
  std::unique_ptr<IoDir> data_;
  std::unique_ptr<IoDir> trash_;
  std::unique_ptr<IoFile> lock_;
  std::vector<std::string> leftovers_;
  std::vector<std::string> unknown_;  // In data/.
};

}  // namespace

absl::StatusOr<DiffCheckReport> CheckDiff(Io& io, const std::string& path,
                                          const DiffCheckOptions& options) {
  return Checker(io, path, options).Run();
}

}  // namespace pbkfs
