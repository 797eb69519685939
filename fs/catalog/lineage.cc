#include "fs/catalog/lineage.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/catalog/format_rules.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

absl::Status NotUsable(absl::string_view what) {
  return WithField(
      ReasonError(absl::StatusCode::kFailedPrecondition, reason::kBackupNotUsable, what),
      "backup_id");
}
absl::Status Incomplete(absl::string_view what) {
  return WithField(
      ReasonError(absl::StatusCode::kFailedPrecondition, reason::kChainIncomplete, what),
      "backup_id");
}
absl::Status Corrupt(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt, what);
}
absl::Status Unsupported(absl::string_view what) {
  return ReasonError(absl::StatusCode::kUnimplemented, reason::kUnsupportedFormat, what);
}

// What a user can do about a backup of this status.
absl::string_view NextStep(BackupStatus status) {
  switch (status) {
    case BackupStatus::kCorrupt:
    case BackupStatus::kOrphan:
      return "validate it with pg_probackup, mount another backup, or mount with --force";
    case BackupStatus::kRunning:
      return "wait until the backup is finished, or mount an older one";
    case BackupStatus::kMerging:
      return "its files are being replaced: wait for the merge or finish it with \"pg_probackup "
             "merge\", then mount again";
    case BackupStatus::kMerged:
      return "finish the merge with \"pg_probackup merge\", then mount again";
    case BackupStatus::kDeleting:
    case BackupStatus::kDeleted:
      return "it is being deleted; mount another backup";
    default:
      return "mount another backup, or take a new one";
  }
}

bool IsStatusUsable(BackupStatus status, bool force) {
  if (status == BackupStatus::kOk || status == BackupStatus::kDone) return true;
  return force && (status == BackupStatus::kCorrupt || status == BackupStatus::kOrphan);
}

absl::Status CheckStatus(const Backup& member, bool force) {
  if (!member.problem.empty()) {
    return NotUsable(absl::StrCat("backup ", member.id, " can't be used: ", member.problem,
                                  "; mount another backup, or repair its directory ",
                                  member.directory));
  }
  if (IsStatusUsable(member.control.status, force)) return absl::OkStatus();
  if (!member.merged_from.empty()) return absl::OkStatus();
  const std::string status =
      member.control.status_text.empty() ? "UNKNOWN" : absl::CHexEscape(member.control.status_text);
  return NotUsable(absl::StrCat("backup ", member.id, " has the status ", status, "; ",
                                NextStep(member.control.status)));
}

// "9.5", "9.6", "10" to the newest.
bool IsServerSupported(absl::string_view version) {
  if (version == "9.5" || version == "9.6") return true;
  int major = 0;
  return absl::SimpleAtoi(version, &major) && major >= 10 && major <= kMaxServerMajor;
}

absl::Status CheckFormat(const Backup& member) {
  const BackupControl& control = member.control;
  if (control.block_size != kPageBytes || control.wal_block_size != kPageBytes) {
    return Unsupported(absl::StrCat("backup ", member.id, " has block-size ", control.block_size,
                                    " and xlog-block-size ", control.wal_block_size, "; only ",
                                    kPageBytes, " is supported"));
  }
  if (control.program_version < kMinProgramVersion) {
    return Unsupported(absl::StrCat(
        "backup ", member.id, " was made by pg_probackup ",
        control.program_version == 0 ? "of unknown version" : control.program_version_text,
        "; backups are supported from 2.0.17 on: take a new FULL backup with a newer "
        "pg_probackup"));
  }
  if (control.program_version >= kEndProgramVersion) {
    return Unsupported(absl::StrCat(
        "backup ", member.id, " was made by pg_probackup ", control.program_version_text,
        ", which is newer than this version of pbkfs knows; use a newer "
        "pbkfs"));
  }
  if (!IsServerSupported(control.server_version)) {
    return Unsupported(absl::StrCat("backup ", member.id, " is of a PostgreSQL '",
                                    absl::CHexEscape(control.server_version),
                                    "'; supported are 9.5 to ", kMaxServerMajor));
  }
  if (control.mode == BackupMode::kUnknown) {
    return Unsupported(absl::StrCat("backup ", member.id, " has backup-mode '",
                                    absl::CHexEscape(control.mode_text),
                                    "', which this version of pbkfs does not know"));
  }
  return absl::OkStatus();
}

// What must hold between a backup and its parent.
absl::Status CheckLink(const Backup& parent, const Backup& child) {
  const auto contradiction = [&](absl::string_view what) {
    return Corrupt(absl::StrCat("backup ", child.id, " contradicts its parent ", parent.id, ": ",
                                what, "; validate both with pg_probackup"));
  };
  const BackupControl& above = child.control;
  const BackupControl& below = parent.control;
  if (below.start_time >= above.start_time) return contradiction("the parent is not older");
  if (below.server_version != above.server_version) {
    return contradiction("the server-version differs");
  }
  // Unfinished backups have no LSNs yet; only `force` brings them here.
  if (below.start_lsn > above.start_lsn && above.start_lsn != 0) {
    return contradiction("the parent's start-lsn is higher");
  }
  if (below.stop_lsn > above.stop_lsn && above.stop_lsn != 0) {
    return contradiction("the parent's stop-lsn is higher");
  }
  return absl::OkStatus();
}

absl::Status CheckMember(const Backup& member, bool force) {
  PBKFS_RETURN_IF_ERROR(CheckStatus(member, force));
  return CheckFormat(member);
}

}  // namespace

Lineage::Lineage(const std::vector<Backup>& backups, bool force) : backups_(backups) {
  by_id_.reserve(backups.size());
  std::vector<absl::Status> own;
  own.reserve(backups.size());
  for (const Backup& backup : backups) {
    // After a crash in a merge two directories can claim one id; the one that is named like it
    // wins.
    const auto [place, inserted] = by_id_.emplace(backup.id, &backup);
    if (!inserted && backup.directory == backup.id) place->second = &backup;
    own.push_back(CheckMember(backup, force));
  }
  // A parent that is not older contradicts its child, so that whoever is worth following was
  // followed before.
  std::vector<size_t> oldest_first(backups.size());
  std::iota(oldest_first.begin(), oldest_first.end(), size_t{0});
  std::stable_sort(oldest_first.begin(), oldest_first.end(), [&backups](size_t a, size_t b) {
    return backups[a].control.start_time < backups[b].control.start_time;
  });
  ends_.resize(backups.size());
  for (const size_t index : oldest_first) ends_[index] = Follow(backups[index], own);
}

Lineage::End Lineage::Follow(const Backup& backup, const std::vector<absl::Status>& own) const {
  const absl::Status& status = own[IndexOf(backup)];
  if (!status.ok()) return {Verdict::kMember, &backup, status, 1};
  if (backup.control.mode == BackupMode::kFull)
    return {Verdict::kMountable, &backup, absl::OkStatus(), 1};
  const std::string& parent_id = backup.control.parent_id;
  if (parent_id.empty()) {
    return {Verdict::kEndsEarly, &backup, absl::OkStatus(), 1};
  }
  const Backup* const parent = Find(parent_id);
  if (parent == nullptr) {
    return {Verdict::kParentMissing, &backup,
            Incomplete(absl::StrCat("backup ", backup.id, " needs its parent ", parent_id,
                                    ", which is not in the catalog; restore that directory, or "
                                    "mount a backup of another chain")),
            1};
  }
  absl::Status link = own[IndexOf(*parent)];
  if (link.ok()) link = CheckLink(*parent, backup);
  if (!link.ok()) return {Verdict::kMember, parent, std::move(link), 2};
  End end = ends_[IndexOf(*parent)];
  if (++end.length > kMaxChainLength) end.verdict = Verdict::kTooLong;
  return end;
}

absl::Status Lineage::Check(const Backup& backup) const {
  const End& end = ends_[IndexOf(backup)];
  switch (end.verdict) {
    case Verdict::kMountable:
      return absl::OkStatus();
    case Verdict::kMember:
      if (end.where == &backup) return end.cause;
      return Annotate(end.cause, absl::StrCat("the chain of backup ", backup.id, " is not usable"));
    case Verdict::kParentMissing:
      return end.cause;
    case Verdict::kEndsEarly:
      return Incomplete(absl::StrCat("the chain of backup ", backup.id, " ends in ", end.where->id,
                                     ", which is not a FULL and names no parent; mount another "
                                     "backup"));
    case Verdict::kTooLong:
      break;
  }
  return Incomplete(absl::StrCat("the chain of backup ", backup.id, " has more than ",
                                 kMaxChainLength, " members"));
}

absl::StatusOr<std::vector<const Backup*>> Lineage::ChainOf(const Backup& backup) const {
  PBKFS_RETURN_IF_ERROR(Check(backup));
  std::vector<const Backup*> chain = {&backup};
  while (chain.back()->control.mode != BackupMode::kFull) {
    chain.push_back(Find(chain.back()->control.parent_id));
  }
  std::reverse(chain.begin(), chain.end());
  return chain;
}

const Backup* Lineage::Find(absl::string_view id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

size_t Lineage::IndexOf(const Backup& backup) const {
  return static_cast<size_t>(&backup - backups_.data());
}

}  // namespace pbkfs
