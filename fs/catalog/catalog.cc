#include "fs/catalog/catalog.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fs/base/plain_path.h"
#include "fs/base/status.h"
#include "fs/catalog/beneath.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

absl::StatusOr<BackupControl> ReadBackupControl(int instance, const std::string& directory) {
  PBKFS_ASSIGN_OR_RETURN(
      const OpenedFile file,
      OpenRegularBeneath(instance, absl::StrCat(directory, "/", kBackupControlName)));
  PBKFS_ASSIGN_OR_RETURN(const std::string text, ReadWhole(file, kMaxControlFileBytes));
  if (text.empty()) {
    return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt,
                       "backup.control is empty");
  }
  return ParseBackupControl(text);
}

Backup DescribeBackup(int instance, const std::string& directory) {
  Backup backup;
  backup.directory = directory;
  absl::StatusOr<BackupControl> control = ReadBackupControl(instance, directory);
  if (control.ok()) {
    backup.control = *std::move(control);
  } else {
    backup.problem = std::string(control.status().message());
    backup.control_missing = absl::IsNotFound(control.status());
  }
  if (backup.control.start_time > 0) {
    backup.id = FormatBackupId(backup.control.start_time);
  } else {
    const absl::StatusOr<int64_t> time = ParseBackupId(directory);
    backup.id = time.ok() ? FormatBackupId(*time) : directory;
    if (backup.problem.empty()) backup.problem = "backup.control has no start-time";
  }
  return backup;
}

// Whether nothing of `backup` is left that would have to be read.
bool IsOnItsWayOut(const Backup& backup) {
  return backup.control_missing || backup.control.status == BackupStatus::kDeleting ||
         backup.control.status == BackupStatus::kDeleted;
}

// Lists FULLs that are MERGED as what they were merged into (format document, section 1.4).
void ShowMergedAsDestination(std::vector<Backup>& backups) {
  for (Backup& merged : backups) {
    const int64_t destination = merged.control.MergedInto();
    if (destination == 0) continue;
    const std::string id = FormatBackupId(destination);
    const auto claims_id = [&](const Backup& other) { return &other != &merged && other.id == id; };
    if (std::any_of(backups.begin(), backups.end(), [&](const Backup& other) {
          return claims_id(other) && !IsOnItsWayOut(other);
        })) {
      continue;
    }
    for (Backup& other : backups) {
      if (claims_id(other)) other.id.clear();  // Its remains are not a backup any more.
    }
    merged.merged_from = std::exchange(merged.id, id);
    merged.control.start_time = destination;
  }
  backups.erase(std::remove_if(backups.begin(), backups.end(),
                               [](const Backup& backup) { return backup.id.empty(); }),
                backups.end());
}

// Ids sort by their number; what is no id comes first, so that "newest" never means it.
int64_t SortKey(const Backup& backup) {
  const absl::StatusOr<int64_t> time = ParseBackupId(backup.id);
  return time.ok() ? *time : 0;
}

InstanceConfig ReadInstanceConfig(int directory, const std::string& path) {
  const auto read = [directory]() -> absl::StatusOr<InstanceConfig> {
    PBKFS_ASSIGN_OR_RETURN(const OpenedFile file,
                           OpenRegularBeneath(directory, "pg_probackup.conf"));
    PBKFS_ASSIGN_OR_RETURN(const std::string text, ReadWhole(file, kMaxControlFileBytes));
    return ParseInstanceConfig(text);
  };
  absl::StatusOr<InstanceConfig> config = read();
  if (config.ok()) return *std::move(config);
  // Backups describe themselves; the instance's configuration only helps with WAL and names.
  spdlog::warn("{}/pg_probackup.conf can't be used, going on with its defaults: {}", path,
               std::string(config.status().message()));
  return InstanceConfig();
}

}  // namespace

absl::StatusOr<std::vector<Backup>> Instance::ListBackups() const {
  absl::StatusOr<std::vector<std::string>> directories = ListDirectories(directory_.get());
  if (!directories.ok()) return Annotate(directories.status(), path_);
  std::vector<Backup> backups;
  backups.reserve(directories->size());
  for (const std::string& directory : *directories) {
    backups.push_back(DescribeBackup(directory_.get(), directory));
  }
  ShowMergedAsDestination(backups);
  std::stable_sort(backups.begin(), backups.end(),
                   [](const Backup& a, const Backup& b) { return SortKey(a) < SortKey(b); });
  return backups;
}

absl::StatusOr<std::unique_ptr<Catalog>> Catalog::Open(const std::string& store) {
  const auto failed = [&store](const absl::Status& status) {
    const std::string message = absl::StrCat(
        "'", store, "' is not a pg_probackup catalog (", status.message(),
        "); give the absolute path of the directory that was made by \"pg_probackup init\"");
    if (!absl::IsNotFound(status) && status.code() != absl::StatusCode::kFailedPrecondition) {
      return WithReason(Annotate(status, absl::StrCat("cannot open the catalog '", store, "'")),
                        reason::kStoreNotFound);
    }
    return ReasonError(absl::StatusCode::kNotFound, reason::kStoreNotFound, message);
  };
  if (!absl::StartsWith(store, "/")) {
    return failed(absl::NotFoundError("the path is not absolute"));
  }
  const absl::StatusOr<UniqueFd> root = OpenPlainDirectory(store, O_RDONLY);
  if (!root.ok()) return failed(root.status());
  absl::StatusOr<UniqueFd> backups = OpenDirectoryBeneath(root->get(), "backups");
  if (!backups.ok()) return failed(backups.status());
  auto catalog = std::make_unique<Catalog>();
  catalog->store_ = store;
  catalog->backups_ = *std::move(backups);
  return catalog;
}

absl::StatusOr<std::vector<std::string>> Catalog::ListInstances() const {
  absl::StatusOr<std::vector<std::string>> names = ListDirectories(backups_.get());
  if (!names.ok()) return Annotate(names.status(), absl::StrCat(store_, "/backups"));
  return names;
}

absl::StatusOr<std::shared_ptr<const Instance>> Catalog::OpenInstance(
    absl::string_view name) const {
  absl::StatusOr<UniqueFd> directory = absl::NotFoundError("it is not the name of a directory");
  if (IsSafeRelativePath(name) && !absl::StrContains(name, '/')) {
    directory = OpenDirectoryBeneath(backups_.get(), name);
  }
  if (!directory.ok()) {
    const absl::StatusOr<std::vector<std::string>> names = ListInstances();
    const std::string known = !names.ok() || names->empty() ? "none" : absl::StrJoin(*names, ", ");
    const std::string message =
        absl::StrCat("there is no instance '", absl::CHexEscape(name.substr(0, kMaxComponentBytes)),
                     "' in ", store_, " (", directory.status().message(), "); there are: ", known);
    return ReasonError(absl::StatusCode::kNotFound, reason::kInstanceNotFound, message);
  }
  auto instance = std::make_shared<Instance>();
  instance->name_ = std::string(name);
  instance->path_ = absl::StrCat(store_, "/backups/", name);
  instance->directory_ = *std::move(directory);
  instance->config_ = ReadInstanceConfig(instance->directory_.get(), instance->path_);
  return std::shared_ptr<const Instance>(std::move(instance));
}

}  // namespace pbkfs
