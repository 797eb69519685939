#include "service/mount_plan.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fs/base/plain_path.h"
#include "fs/base/status.h"
#include "fs/base/unique_fd.h"
#include "fs/catalog/catalog.h"
#include "fs/catalog/limits.h"
#include "fs/catalog/lineage.h"
#include "fs/catalog/wal_tree.h"
#include "fs/diff/binding.h"
#include "fs/diff/check.h"
#include "service/diff_identity.h"
#include "service/limits.h"
#include "service/lower_files.h"
#include "service/proto_convert.h"
#include "service/recovery_plan.h"
#include "service/recovery_settings.h"
#include "service/utf8.h"

namespace pbkfs {
namespace {

absl::Status InvalidField(absl::string_view field, absl::string_view message) {
  return WithField(ReasonError(absl::StatusCode::kInvalidArgument, reason::kInvalidField,
                               absl::StrCat(field, ": ", message)),
                   field);
}

absl::StatusOr<bool> IsEmptyDirectory(const std::string& path) {
  PBKFS_ASSIGN_OR_RETURN(UniqueFd fd, OpenPlainDirectory(path, O_RDONLY));
  DIR* directory = fdopendir(fd.get());
  if (directory == nullptr) return ErrnoError(errno, path);
  fd.Release();
  bool empty = true;
  while (const dirent* entry = readdir(directory)) {
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") empty = false;
  }
  closedir(directory);
  return empty;
}

absl::Status CheckTarget(const MountPlan& plan) {
  if (!plan.where.target_exists) return absl::OkStatus();
  const std::string& target = plan.where.paths.target;
  const absl::StatusOr<bool> empty = IsEmptyDirectory(target);
  if (empty.ok() && *empty) return absl::OkStatus();
  const std::string why =
      empty.ok() ? absl::StrCat(target, " is not empty") : std::string(empty.status().message());
  return WithField(ReasonError(absl::StatusCode::kFailedPrecondition, reason::kTargetNotEmpty,
                               absl::StrCat("target not an empty directory: ", why,
                                            "; empty it, or name a directory that does not exist")),
                   "target");
}

// Whether a new diff has room in the directory `place`: tried with a file without a name, so that
// nothing is changed, and nobody else's rules for reserved blocks, quotas and inodes are guessed.
absl::Status CheckSpace(const std::string& place) {
  const UniqueFd file(open(place.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
  int error = file.valid() ? 0 : errno;
  if (file.valid() && fallocate(file.get(), 0, 0, kNewDiffBytes) != 0) error = errno;
  // Not every file system can try.
  if (error != ENOSPC && error != EDQUOT) return absl::OkStatus();
  return ErrnoError(error, absl::StrCat("making a file in ", place));
}

// What opening the diff and reading its log would find, where nobody is going to do that.
absl::Status CheckContent(const std::string& diff, const Image& image, Io& io) {
  DiffCheckOptions options;
  options.lower = &image;
  PBKFS_ASSIGN_OR_RETURN(const DiffCheckReport report, CheckDiff(io, diff, options));
  for (const DiffFinding& finding : report.findings.list()) {
    if (finding.severity != FindingSeverity::kError) continue;
    // What concerns the log says what to do in its own words.
    return ReasonError(absl::StatusCode::kDataLoss, reason::kDiffCorrupt,
                       finding.subject == "log"
                           ? finding.message
                           : absl::StrCat(finding.subject, ": ", finding.message,
                                          "; see pbkfs diff check ", diff));
  }
  return absl::OkStatus();
}

absl::Status FillDiff(MountPlan* plan, Io& io) {
  const std::string& diff = plan->where.paths.diff;
  struct stat st;
  const bool exists = lstat(diff.c_str(), &st) == 0;
  const auto binding = DiffStore::Check(io, diff, plan->identity);
  if (!binding.ok()) return DiffRefused(binding.status(), diff);
  plan->diff_is_new = !binding->has_value() || !(*binding)->prepared();
  plan->diff_directory_is_empty = exists && !binding->has_value();
  if (!plan->diff_is_new && plan->request.validate_only()) {
    const absl::Status whole = CheckContent(diff, *plan->image, io);
    // Somebody deletes it at this moment.
    plan->diff_is_new = absl::IsNotFound(whole);
    if (!plan->diff_is_new) PBKFS_RETURN_IF_ERROR(DiffRefused(whole, diff));
  }
  if (!plan->diff_is_new) {
    plan->diff_settings = ParseSettings({(*binding)->guards().begin(), (*binding)->guards().end()});
    plan->diff_has_links = (*binding)->tablespace_links();
  }
  const std::string place = exists ? diff : diff.substr(0, diff.rfind('/') + 1);
  if (plan->diff_is_new) PBKFS_RETURN_IF_ERROR(DiffRefused(CheckSpace(place), diff));
  struct statvfs fs;
  if (statvfs(place.c_str(), &fs) == 0) {
    plan->mount.set_diff_free_bytes(static_cast<int64_t>(fs.f_bavail) *
                                    static_cast<int64_t>(fs.f_frsize));
  }
  return absl::OkStatus();
}

absl::Status FillOwner(const Instance& instance, MountPlan* plan) {
  v1::Owner* owner = plan->mount.mutable_owner();
  if (plan->request.has_owner()) {
    *owner = plan->request.owner();
    // chown takes this value for "leave it".
    if (owner->uid() == UINT32_MAX || owner->gid() == UINT32_MAX) {
      return InvalidField("owner", "4294967295 is not an id");
    }
    return absl::OkStatus();
  }
  struct stat st;
  if (fstat(instance.directory_fd(), &st) != 0) return ErrnoError(errno, instance.path());
  owner->set_uid(st.st_uid);
  owner->set_gid(st.st_gid);
  return absl::OkStatus();
}

void CopyRequest(const v1::MountRequest& request, v1::Mount* mount) {
  mount->set_mount_id(request.mount_id());
  mount->set_store(request.store());
  mount->set_instance(request.instance());
  mount->set_target(request.target());
  mount->set_diff_dir(request.diff_dir());
  mount->set_read_only(request.read_only());
  mount->set_materialize_on_read(request.materialize_on_read());
  mount->set_force(request.force());
  mount->set_catalog_lock(request.catalog_lock());
  mount->set_ephemeral(request.ephemeral());
  mount->set_restore(request.restore());
  mount->set_diff_limit_bytes(request.diff_limit_bytes());
  *mount->mutable_settings() = request.settings();
  mount->set_default_config(request.default_config());
  mount->set_tablespaces(request.tablespaces());
  mount->set_allow_tablespace_wal(request.allow_tablespace_wal());
  mount->set_threads(request.threads());
}

void FillFromImage(const Image& image, v1::Mount* mount) {
  const Chain& chain = image.chain();
  const BackupControl& control = chain.tip().control;
  mount->set_backup_id(chain.tip().id);
  for (const auto& member : chain.members) ToProto(*member, mount->add_chain());
  mount->set_server_version(ToUtf8(control.server_version));
  mount->set_restart_protection(v1::RESTART_PROTECTION_NONE);
  mount->set_logical_bytes(image.info().logical_bytes);
  mount->set_start_lsn(FormatLsn(control.start_lsn));
  mount->set_stop_lsn(FormatLsn(control.stop_lsn));
  for (const std::string& path : control.external_dirs) {
    mount->add_external_directories(ToUtf8(path));
  }
  const int64_t time = control.recovery_time != 0 ? control.recovery_time : control.end_time;
  if (time != 0) mount->mutable_backup_time()->set_seconds(time);
}

void WarnOfConfigFiles(MountPlan* plan) {
  const std::vector<std::string> missing = MissingConfigFiles(*plan->image);
  if (missing.empty()) return;
  const std::string names = absl::StrJoin(missing, ", ");
  if (!plan->request.default_config()) {
    plan->mount.add_warnings(absl::StrCat(
        "not in the backup, and the server needs them: ", names,
        "; with default_config the mount gets minimal ones that only let local users in"));
  } else if (!plan->diff_settings.has_value()) {
    plan->mount.add_warnings(absl::StrCat(
        "minimal files take the place of those that the backup lacks: ", names,
        "; settings that the production server has there, such as shared_preload_libraries, are "
        "not in force"));
  } else {
    plan->mount.add_warnings("the diff exists: default_config writes nothing into it");
  }
}

void WarnOfTablespaces(MountPlan* plan) {
  if (plan->image->info().tablespaces.empty() || !plan->diff_settings.has_value()) return;
  const bool wants_links = plan->request.tablespaces() == v1::TABLESPACE_MODE_SYMLINK;
  if (plan->diff_has_links == wants_links) return;
  plan->mount.add_warnings(absl::StrCat("the diff exists: its tablespaces stay ",
                                        wants_links ? "directories" : "links"));
}

// Where "latest" is not the newest backup of all.
absl::Status WarnOfNewerBackup(const Instance& instance, MountPlan* plan) {
  if (plan->request.backup_id() != "latest") return absl::OkStatus();
  PBKFS_ASSIGN_OR_RETURN(const std::vector<Backup> backups, instance.ListBackups());
  if (backups.empty() || backups.back().id == plan->mount.backup_id()) return absl::OkStatus();
  const absl::Status newest = Lineage(backups, plan->request.force()).Check(backups.back());
  plan->mount.add_warnings(ToUtf8(
      absl::StrCat("backup ", plan->mount.backup_id(), " is mounted although ", backups.back().id,
                   " is newer: ", newest.ok() ? "it is from this moment" : newest.message())));
  return absl::OkStatus();
}

void WarnOfNewerProgram(const Chain& chain, v1::Mount* mount) {
  for (const auto& member : chain.members) {
    if (member->control.program_version <= kTestedProgramVersion) continue;
    mount->add_warnings(ToUtf8(absl::StrCat(
        "backup ", member->id, " was made by pg_probackup ", member->control.program_version_text,
        ", which is newer than the versions that pbkfs was tested with")));
    return;
  }
}

void AddWarnings(MountPlan* plan) {
  v1::Mount& mount = plan->mount;
  const auto warn = [&mount](absl::string_view text) { mount.add_warnings(ToUtf8(text)); };
  const BackupControl& control = plan->image->chain().tip().control;
  if (mount.owner().uid() == 0) {
    warn("the owner is root, and PostgreSQL refuses to run as root: choose one with --owner");
  }
  if (!control.stream && !plan->recovery.has_value() && !plan->diff_settings.has_value()) {
    warn(
        "this is an ARCHIVE backup of a server before 12: write a recovery.conf into the mount "
        "that "
        "copies archived WAL from .pbkfs/wal, or take STREAM backups");
  }
  WarnOfNewerProgram(plan->image->chain(), &mount);
  WarnOfConfigFiles(plan);
  WarnOfTablespaces(plan);
  for (const std::string& text : CloneWarnings(plan->config)) warn(text);
  if (mount.external_directories_size() > 0) {
    warn(absl::StrCat("external directories are not put in their places but shown in ",
                      mount.target(),
                      "/.pbkfs/external: ", absl::StrJoin(mount.external_directories(), ", ")));
  }
  if (plan->request.force()) {
    warn("mounted by force: a backup of the chain may be damaged");
  }
  if (plan->diff_settings.has_value() && plan->request.settings_size() > 0) {
    warn(
        "the diff exists: its configuration files are as they were left, and settings of this "
        "request are only in start_command");
  }
}

absl::Status FillClone(MountPlan* plan) {
  const Image& image = *plan->image;
  absl::StatusOr<ServerConfig> config = LoadServerConfig(ConfigOf(image));
  if (!config.ok()) return Annotate(config.status(), "reading the configuration of the backup");
  plan->config = *std::move(config);
  const std::map<std::string, std::string> requested(plan->request.settings().begin(),
                                                     plan->request.settings().end());
  if (!plan->diff_settings.has_value()) {
    PBKFS_RETURN_IF_ERROR(CheckCloneIsSafe(plan->config, requested));
  }
  CloneFacts facts;
  if (plan->request.default_config() && !plan->diff_settings.has_value()) {
    PBKFS_ASSIGN_OR_RETURN(plan->default_files, DefaultFilesFor(image, plan->mount.owner().uid()));
  }
  facts.server_major = image.chain().tip().control.ServerMajor();
  facts.tablespace_directories = !image.info().tablespaces.empty() &&
                                 plan->request.tablespaces() == v1::TABLESPACE_MODE_DIRECTORY;
  if (plan->recovery.has_value()) facts.recovery = RecoverySettings(*plan->recovery);
  plan->settings = CloneSettings(facts, plan->config, requested);
  return absl::OkStatus();
}

absl::Status MakeSideTree(const std::shared_ptr<const WalArchive>& archive, bool recovers,
                          MountPlan* plan) {
  PBKFS_ASSIGN_OR_RETURN(plan->side_tree, plan->image->MakeExternalTree());
  // A server that is to recover gets the directory even where there is no archive: it tells that
  // from a mount that is not there.
  if (archive != nullptr || recovers) {
    plan->side_tree = MakeWalTree(std::move(plan->side_tree), archive, plan->image->Time());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DiffRefused(absl::Status status, const std::string& diff) {
  // Opening it reads the image too.
  if (status.ok() || ReasonOf(status) == reason::kCatalogCorrupt) return status;
  if (IsNoSpace(status)) {
    status =
        ReasonError(absl::StatusCode::kResourceExhausted, reason::kDiffSpace,
                    absl::StrCat("diff ", diff, ": its file system is full (", status.message(),
                                 "); make room there, or name a diff on another one"));
  } else if (ReasonOf(status) == reason::kDiffCorrupt ||
             ReasonOf(status) == reason::kUnsupportedFormat) {
    status = Annotate(status, absl::StrCat("diff ", diff));
  }
  return WithField(std::move(status), "diff_dir");
}

absl::StatusOr<MountPlan> PlanAgain(const v1::MountRecord& record, ImageRegistry& images) {
  MountPlan plan;
  plan.request = record.request();
  plan.where.paths = {record.store_path(), record.target_path(), record.diff_path()};
  plan.where.target_exists = !record.made_target();
  plan.mount = record.mount();
  PBKFS_ASSIGN_OR_RETURN(const std::unique_ptr<Catalog> catalog,
                         Catalog::Open(record.store_path()));
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const Instance> instance,
                         catalog->OpenInstance(plan.request.instance()));
  PBKFS_ASSIGN_OR_RETURN(plan.image,
                         images.Get(instance, plan.mount.backup_id(), plan.request.force()));
  plan.identity = DiffIdentityOf(*plan.image, plan.request.instance(), plan.mount.owner());
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const WalArchive> archive,
                         OpenWalArchive(*plan.image, record.store_path(), images));
  PBKFS_RETURN_IF_ERROR(MakeSideTree(archive, plan.mount.has_recovery(), &plan));
  return plan;
}

absl::StatusOr<RequestPaths> ResolvePaths(const v1::MountRequest& request,
                                          const PathPolicy& policy) {
  RequestPaths where;
  PBKFS_ASSIGN_OR_RETURN(const ResolvedPath store, policy.Resolve("store", request.store()));
  PBKFS_ASSIGN_OR_RETURN(const ResolvedPath target, policy.Resolve("target", request.target()));
  PBKFS_ASSIGN_OR_RETURN(const ResolvedPath diff, policy.Resolve("diff_dir", request.diff_dir()));
  where.paths = MountPaths{store.path, target.path, diff.path};
  where.target_exists = target.exists;
  PBKFS_RETURN_IF_ERROR(CheckApart(where.paths));
  for (const auto& [field, path] : {std::pair("target", &target), std::pair("diff_dir", &diff)}) {
    if (path->parent_exists) continue;
    return InvalidField(field, absl::StrCat("the directory that should hold ", path->path,
                                            " does not exist; make it first"));
  }
  PBKFS_RETURN_IF_ERROR(CheckOutsideCatalogs("target", target.path));
  PBKFS_RETURN_IF_ERROR(CheckOutsideCatalogs("diff_dir", diff.path));
  return where;
}

absl::StatusOr<MountPlan> PlanMount(const v1::MountRequest& request, const RequestPaths& where,
                                    ImageRegistry& images, Io& io) {
  MountPlan plan;
  plan.request = request;
  plan.where = where;
  CopyRequest(request, &plan.mount);
  PBKFS_ASSIGN_OR_RETURN(const std::unique_ptr<Catalog> catalog, Catalog::Open(where.paths.store));
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const Instance> instance,
                         catalog->OpenInstance(request.instance()));
  PBKFS_RETURN_IF_ERROR(FillOwner(*instance, &plan));
  PBKFS_ASSIGN_OR_RETURN(plan.image, images.Get(instance, request.backup_id(), request.force()));
  FillFromImage(*plan.image, &plan.mount);

  plan.identity = DiffIdentityOf(*plan.image, request.instance(), plan.mount.owner());
  PBKFS_RETURN_IF_ERROR(CheckTarget(plan));
  PBKFS_RETURN_IF_ERROR(FillDiff(&plan, io));
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const WalArchive> archive,
                         OpenWalArchive(*plan.image, where.paths.store, images));
  std::vector<std::string> wal_warnings;
  PBKFS_RETURN_IF_ERROR(PlanRecovery(&plan, archive.get(), &wal_warnings));
  PBKFS_RETURN_IF_ERROR(FillClone(&plan));
  PBKFS_RETURN_IF_ERROR(MakeSideTree(archive, plan.recovery.has_value(), &plan));
  PBKFS_RETURN_IF_ERROR(WarnOfNewerBackup(*instance, &plan));
  AddWarnings(&plan);
  for (const std::string& text : wal_warnings) plan.mount.add_warnings(ToUtf8(text));
  plan.mount.set_start_command(
      StartCommand(request.target(), plan.mount.server_version(), plan.settings));
  return plan;
}

}  // namespace pbkfs
