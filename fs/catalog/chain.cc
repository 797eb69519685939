#include "fs/catalog/chain.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fs/base/status.h"
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

using BackupsById = absl::flat_hash_map<absl::string_view, const Backup*>;

// After a crash in a merge two directories can claim one id; the one that is named like it wins.
BackupsById IndexById(const std::vector<Backup>& backups) {
  BackupsById by_id;
  by_id.reserve(backups.size());
  for (const Backup& backup : backups) {
    const auto [place, inserted] = by_id.emplace(backup.id, &backup);
    if (!inserted && backup.directory == backup.id) place->second = &backup;
  }
  return by_id;
}

absl::StatusOr<std::vector<const Backup*>> Walk(const BackupsById& by_id, const Backup& tip,
                                                bool force) {
  std::vector<const Backup*> chain = {&tip};
  while (true) {
    const Backup& member = *chain.back();
    absl::Status status = CheckStatus(member, force);
    if (status.ok()) status = CheckFormat(member);
    if (status.ok() && chain.size() > 1) status = CheckLink(member, *chain[chain.size() - 2]);
    if (!status.ok()) {
      if (&member == &tip) return status;
      return Annotate(status, absl::StrCat("the chain of backup ", tip.id, " is not usable"));
    }
    if (member.control.mode == BackupMode::kFull) break;
    const std::string& parent_id = member.control.parent_id;
    if (member.control.mode == BackupMode::kUnknown || parent_id.empty()) {
      return Incomplete(absl::StrCat("the chain of backup ", tip.id, " ends in ", member.id,
                                     ", which is not a FULL and names no parent; mount another "
                                     "backup"));
    }
    const auto parent = by_id.find(parent_id);
    if (parent == by_id.end()) {
      return Incomplete(absl::StrCat("backup ", member.id, " needs its parent ", parent_id,
                                     ", which is not in the catalog; restore that directory, or "
                                     "mount a backup of another chain"));
    }
    if (chain.size() == kMaxChainLength) {
      return Incomplete(absl::StrCat("the chain of backup ", tip.id, " has more than ",
                                     kMaxChainLength, " members"));
    }
    chain.push_back(parent->second);
  }
  std::reverse(chain.begin(), chain.end());
  return chain;
}

absl::StatusOr<std::unique_ptr<ChainMember>> LoadControl(const Instance& instance,
                                                         const Backup& backup) {
  auto member = std::make_unique<ChainMember>();
  member->id = backup.id;
  member->directory = backup.directory;
  member->path = absl::StrCat(instance.path(), "/", backup.directory);
  PBKFS_ASSIGN_OR_RETURN(member->directory_fd,
                         OpenDirectoryBeneath(instance.directory_fd(), backup.directory));
  PBKFS_ASSIGN_OR_RETURN(const OpenedFile file,
                         OpenRegularBeneath(member->directory_fd.get(), kBackupControlName));
  PBKFS_ASSIGN_OR_RETURN(const std::string text, ReadWhole(file, kMaxControlFileBytes));
  PBKFS_ASSIGN_OR_RETURN(member->control, ParseBackupControl(text));
  if (!backup.merged_from.empty() && member->control.MergedInto() != 0) {
    member->control.start_time = member->control.MergedInto();
  }
  member->format = FormatRules::Of(member->control.program_version);
  member->control_identity = file.identity;
  return member;
}

// Reads the list of a member, and checks what can be checked without the others.
absl::Status ReadList(ChainMember& member, ListVisitor visit) {
  PBKFS_ASSIGN_OR_RETURN(const OpenedFile file,
                         OpenRegularBeneath(member.directory_fd.get(), kFileListName));
  const bool is_full = member.control.mode == BackupMode::kFull;
  PBKFS_ASSIGN_OR_RETURN(
      const ListDigest digest,
      ReadFileList(file, [is_full, visit](const ListedFile& listed) -> absl::Status {
        if (is_full && listed.entry.size < 0) {
          return Corrupt(
              absl::StrCat("'", listed.entry.path,
                           "' is listed as unchanged since the parent, but a FULL has none"));
        }
        return visit(listed);
      }));
  const auto* const broken_end = std::end(kBrokenListVersions);
  if (digest.bytes >= kBrokenListBytes && std::find(std::begin(kBrokenListVersions), broken_end,
                                                    member.control.program_version) != broken_end) {
    return Corrupt(absl::StrCat(kFileListName, " has ", digest.bytes, " bytes, and pg_probackup ",
                                member.control.program_version_text, " wrote lists of ",
                                kBrokenListBytes,
                                " bytes and more with errors; take a new FULL backup with a newer "
                                "pg_probackup"));
  }
  if (member.control.content_crc != 0 && digest.crc != member.control.content_crc) {
    return Corrupt(absl::StrCat(kFileListName, " has CRC ", digest.crc,
                                ", but backup.control says ", member.control.content_crc));
  }
  if (!digest.status.ok()) return Annotate(digest.status, kFileListName);
  member.list_identity = file.identity;
  member.list_crc = digest.crc;
  return absl::OkStatus();
}

absl::Status OfBackup(const ChainMember& member, const absl::Status& status) {
  return status.ok() ? status : Annotate(status, absl::StrCat("backup ", member.id));
}

absl::StatusOr<FileList> ReadTipList(ChainMember& tip) {
  FileList list;
  PBKFS_RETURN_IF_ERROR(ReadList(tip, [&list](const ListedFile& listed) {
    list.Add(listed);
    return absl::OkStatus();
  }));
  if (absl::Status status = list.Finish(); !status.ok()) return Annotate(status, kFileListName);
  return list;
}

// The lists, one after the other, the newest first.
absl::StatusOr<ChainFiles> LoadFiles(const std::vector<std::unique_ptr<ChainMember>>& members) {
  ChainMember& tip = *members.back();
  absl::StatusOr<FileList> tip_list = ReadTipList(tip);
  if (!tip_list.ok()) return OfBackup(tip, tip_list.status());
  ChainFilesBuilder builder(*std::move(tip_list), members.size());
  for (auto member = std::next(members.rbegin()); member != members.rend(); ++member) {
    absl::Status status = ReadList(
        **member, [&builder](const ListedFile& listed) { return builder.Add(listed.entry); });
    if (status.ok()) status = builder.EndMember();
    if (!status.ok()) return OfBackup(**member, status);
  }
  return builder.Finish();
}

}  // namespace

absl::Status Chain::CheckUnchanged(size_t index) const { return watch->Check(index); }

absl::Status Chain::CheckAll() const { return watch->CheckAll(); }

absl::Status Chain::State() const { return watch->State(); }

absl::StatusOr<OpenedFile> Chain::Open(size_t index, absl::string_view path) const {
  return watch->Open(index, path);
}

absl::StatusOr<std::vector<const Backup*>> FindChain(const std::vector<Backup>& backups,
                                                     const Backup& backup, bool force) {
  return Walk(IndexById(backups), backup, force);
}

absl::Status CheckMountable(const std::vector<Backup>& backups, const Backup& backup, bool force) {
  return FindChain(backups, backup, force).status();
}

absl::StatusOr<const Backup*> FindBackup(const std::vector<Backup>& backups, absl::string_view id) {
  const auto not_found = [](absl::string_view what) {
    return ReasonError(absl::StatusCode::kNotFound, reason::kBackupNotFound, what);
  };
  const BackupsById by_id = IndexById(backups);
  if (id.empty() || absl::EqualsIgnoreCase(id, "latest")) {
    for (auto backup = backups.rbegin(); backup != backups.rend(); ++backup) {
      if (Walk(by_id, *backup, false).ok()) return &*backup;
    }
    return not_found(backups.empty()
                         ? "the instance has no backups; take one with pg_probackup"
                         : "no backup of the instance can be mounted; name one to see why");
  }
  const absl::StatusOr<int64_t> wanted = ParseBackupId(id);
  if (!wanted.ok()) {
    return not_found(absl::StrCat("'", absl::CHexEscape(id.substr(0, 64)),
                                  "' is not a backup id; \"pg_probackup show\" lists them"));
  }
  const std::string normal = FormatBackupId(*wanted);
  const auto found = by_id.find(normal);
  if (found != by_id.end()) return found->second;
  for (const Backup& backup : backups) {
    if (backup.merged_from != normal) continue;
    return not_found(
        absl::StrCat("backup ", normal, " was merged into ", backup.id, "; mount that one"));
  }

  std::vector<std::pair<int64_t, absl::string_view>> closest;
  for (const Backup& backup : backups) {
    const absl::StatusOr<int64_t> time = ParseBackupId(backup.id);
    if (time.ok()) closest.emplace_back(std::abs(*time - *wanted), backup.id);
  }
  std::sort(closest.begin(), closest.end());
  if (closest.size() > 3) closest.resize(3);
  const std::string names = absl::StrJoin(
      closest, ", ", [](std::string* out, const auto& near) { absl::StrAppend(out, near.second); });
  return not_found(absl::StrCat("there is no backup ", normal,
                                "; the closest are: ", names.empty() ? "none" : names));
}

absl::StatusOr<std::shared_ptr<const Chain>> ResolveChain(std::shared_ptr<const Instance> instance,
                                                          absl::string_view backup_id, bool force) {
  PBKFS_ASSIGN_OR_RETURN(const std::vector<Backup> backups, instance->ListBackups());
  PBKFS_ASSIGN_OR_RETURN(const Backup* tip, FindBackup(backups, backup_id));
  PBKFS_ASSIGN_OR_RETURN(const std::vector<const Backup*> found, FindChain(backups, *tip, force));

  auto chain = std::make_shared<Chain>();
  std::vector<std::unique_ptr<ChainMember>> members;
  for (const Backup* backup : found) {
    absl::StatusOr<std::unique_ptr<ChainMember>> member = LoadControl(*instance, *backup);
    if (!member.ok()) return Annotate(member.status(), absl::StrCat("backup ", backup->id));
    // The control file may have been replaced since it was listed.
    const absl::string_view difference = ControlDifference(backup->control, (*member)->control);
    if (!difference.empty()) {
      return CatalogChanged(absl::StrCat("backup ", backup->id,
                                         " changed while its chain was resolved: ", difference,
                                         "; try again"));
    }
    members.push_back(*std::move(member));
  }
  PBKFS_ASSIGN_OR_RETURN(chain->files, LoadFiles(members));
  chain->members.insert(chain->members.end(), std::make_move_iterator(members.begin()),
                        std::make_move_iterator(members.end()));
  chain->instance = std::move(instance);
  chain->watch = std::make_unique<ChainWatch>(*chain);
  // A list that was replaced while it was read shows in the control file, which is replaced after
  // it.
  PBKFS_RETURN_IF_ERROR(chain->CheckAll());
  return std::shared_ptr<const Chain>(std::move(chain));
}

}  // namespace pbkfs
