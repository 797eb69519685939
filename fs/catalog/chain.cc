#include "fs/catalog/chain.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"
#include "fs/catalog/lineage.h"

namespace pbkfs {
namespace {

absl::Status Corrupt(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt, what);
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
  return Lineage(backups, force).ChainOf(backup);
}

absl::StatusOr<const Backup*> FindBackup(const std::vector<Backup>& backups, absl::string_view id,
                                         bool force) {
  const auto not_found = [](absl::string_view what) {
    return ReasonError(absl::StatusCode::kNotFound, reason::kBackupNotFound, what);
  };
  const Lineage lineage(backups, force);
  if (id.empty() || absl::EqualsIgnoreCase(id, "latest")) {
    for (auto backup = backups.rbegin(); backup != backups.rend(); ++backup) {
      if (lineage.Check(*backup).ok()) return &*backup;
    }
    if (backups.empty()) {
      return not_found("the instance has no backups; take one with pg_probackup");
    }
    return Annotate(lineage.Check(backups.back()),
                    "no backup of the instance can be mounted; of the newest");
  }
  const absl::StatusOr<int64_t> wanted = ParseBackupId(id);
  if (!wanted.ok()) {
    return not_found(absl::StrCat("'", absl::CHexEscape(id.substr(0, 64)),
                                  "' is not a backup id; \"pg_probackup show\" lists them"));
  }
  const std::string normal = FormatBackupId(*wanted);
  if (const Backup* const found = lineage.Find(normal); found != nullptr) return found;
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
  PBKFS_ASSIGN_OR_RETURN(const Backup* tip, FindBackup(backups, backup_id, force));
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
