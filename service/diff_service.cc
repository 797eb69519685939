#include "service/diff_service.h"

#include <cerrno>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/catalog/catalog.h"
#include "fs/diff/binding.h"
#include "fs/diff/diff_store.h"
#include "fs/diff/diff_summary.h"
#include "service/diff_identity.h"
#include "service/mount_plan.h"
#include "service/proto_convert.h"
#include "service/rpc_call.h"
#include "service/utf8.h"

namespace pbkfs {
namespace {

absl::Status InvalidField(absl::string_view field, absl::string_view message) {
  return WithField(ReasonError(absl::StatusCode::kInvalidArgument, reason::kInvalidField,
                               absl::StrCat(field, ": ", message)),
                   field);
}

absl::Status DiffNotFound(const std::string& path) {
  return WithField(ReasonError(absl::StatusCode::kNotFound, reason::kDiffNotFound,
                               absl::StrCat("there is no diff at ", path, "; see pbkfs diff list")),
                   "path");
}

v1::DiffState StateOf(const DiffSummary& summary) {
  if (summary.in_use) return v1::DIFF_STATE_IN_USE;
  switch (summary.condition) {
    case DiffCondition::kClean:
      return v1::DIFF_STATE_CLEAN;
    case DiffCondition::kUnclean:
      return v1::DIFF_STATE_UNCLEAN;
    case DiffCondition::kNew:
      return v1::DIFF_STATE_NEW;
    case DiffCondition::kUnsupported:
      return v1::DIFF_STATE_UNSUPPORTED;
    case DiffCondition::kHalfDeleted:
      return v1::DIFF_STATE_HALF_DELETED;
    case DiffCondition::kDamaged:
      break;
  }
  return v1::DIFF_STATE_DAMAGED;
}

void FillDiff(const DiffSummary& summary, v1::Diff* out) {
  out->set_in_use(summary.in_use);
  out->set_state(StateOf(summary));
  out->set_allocated_bytes(summary.allocated_bytes);
  if (summary.last_use != 0) {
    ToProto(absl::FromUnixNanos(summary.last_use), out->mutable_last_use_time());
  }
  if (!summary.binding.has_value()) return;
  const v1::DiffBinding& binding = *summary.binding;
  out->set_instance(binding.instance());
  out->set_backup_id(binding.backup_id());
  out->mutable_owner()->set_uid(binding.owner_uid());
  out->mutable_owner()->set_gid(binding.owner_gid());
  *out->mutable_create_time() = binding.create_time();
  out->set_ephemeral(binding.ephemeral());
}

v1::FindingSeverity SeverityOf(FindingSeverity severity) {
  switch (severity) {
    case FindingSeverity::kError:
      return v1::FINDING_SEVERITY_ERROR;
    case FindingSeverity::kWarning:
      return v1::FINDING_SEVERITY_WARNING;
    case FindingSeverity::kInfo:
      break;
  }
  return v1::FINDING_SEVERITY_INFO;
}

// Where nothing tells whose a diff is, it is the administrators'.
bool Owns(const Caller& caller, const DiffSummary& summary) {
  return caller.administrator() ||
         (summary.binding.has_value() && caller.Owns(summary.binding->owner_uid()));
}

void FillReport(const DiffCheckReport& report, v1::CheckDiffResponse* response) {
  const DiffFindings& findings = report.findings;
  response->set_verdict(findings.errors() > 0     ? v1::DIFF_VERDICT_CORRUPT
                        : findings.warnings() > 0 ? v1::DIFF_VERDICT_WARNINGS
                                                  : v1::DIFF_VERDICT_OK);
  for (const DiffFinding& finding : findings.list()) {
    v1::Finding* out = response->add_findings();
    out->set_severity(SeverityOf(finding.severity));
    out->set_code(finding.code);
    out->set_subject(ToUtf8(finding.subject));
    out->set_message(ToUtf8(finding.message));
    out->set_remedy(finding.remedy);
    out->set_repaired(finding.repaired);
  }
  response->set_findings_omitted(findings.omitted());
  response->set_needs_recovery(report.shutdown.has_value() &&
                               *report.shutdown != ShutdownKind::kClean);
  if (report.binding.has_value()) {
    response->set_instance(report.binding->instance());
    response->set_backup_id(report.binding->backup_id());
  }
  response->set_inodes(report.inodes);
  response->set_data_files(report.data_files);
  response->set_present_blocks(report.present_blocks);
  response->set_log_bytes(report.log_bytes);
}

}  // namespace

DiffServiceImpl::DiffServiceImpl(const PathPolicy& policy, const MountManager& manager,
                                 ImageRegistry& images, Io& io, CallGate& gate)
    : policy_(policy), manager_(manager), images_(images), io_(io), gate_(gate) {}

absl::StatusOr<std::string> DiffServiceImpl::FindDiff(const std::string& path,
                                                      const std::string& mount_id) const {
  if (path.empty() == mount_id.empty()) {
    return InvalidField("path", "give either path or mount_id");
  }
  std::string wanted = path;
  if (path.empty()) {
    // The id of a mount names its diff, wherever that is.
    if (const auto mount = manager_.Find(mount_id)) return mount->paths().diff;
    PBKFS_RETURN_IF_ERROR(CheckMountId(mount_id));
    wanted = absl::StrCat(policy_.state_directory(), "/diffs/", mount_id);
  }
  PBKFS_ASSIGN_OR_RETURN(const std::string clean, CleanPath("path", wanted));
  PBKFS_ASSIGN_OR_RETURN(const ResolvedPath resolved, policy_.Resolve("path", clean));
  if (!resolved.exists) return DiffNotFound(resolved.path);
  return resolved.path;
}

absl::Status DiffServiceImpl::CheckOwner(const Caller& caller, const std::string& path) const {
  if (caller.administrator()) return absl::OkStatus();
  const auto summary = ReadDiffSummary(io_, path);
  if (summary.ok() && summary->has_value() && (*summary)->binding.has_value()) {
    return WithField(
        caller.CheckOwns((*summary)->binding->owner_uid(), absl::StrCat("the diff ", path)),
        "path");
  }
  return WithField(
      caller.CheckAdministrator(absl::StrCat(path, ", which does not tell whose diff it is,")),
      "path");
}

absl::Status DiffServiceImpl::CheckUnused(const std::string& path) const {
  PBKFS_RETURN_IF_ERROR(manager_.CheckDiffNotAwaited(path));
  for (const auto& mount : manager_.Mounts()) {
    if (mount->paths().diff != path) continue;
    return WithField(ReasonError(absl::StatusCode::kFailedPrecondition, reason::kDiffInUse,
                                 absl::StrCat("the diff ", path, " is in use by mount '",
                                              mount->id(), "'; unmount that one first")),
                     "path");
  }
  return absl::OkStatus();
}

void DiffServiceImpl::AddCandidates(const std::string& directory,
                                    std::set<std::string>* paths) const {
  const auto opened = io_.OpenDir(directory);
  if (!opened.ok()) return;
  const auto names = (*opened)->List();
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    // A mount of ours may lie here, and must not be touched; a link may lead anywhere.
    const std::string path = absl::StrCat(directory, "/", name);
    const auto resolved = policy_.Resolve("directory", path);
    if (resolved.ok() && resolved->path == path) paths->insert(path);
  }
}

absl::Status DiffServiceImpl::DoListDiffs(const v1::ListDiffsRequest& request, const Caller& caller,
                                          v1::ListDiffsResponse* response) {
  std::set<std::string> paths;
  if (!request.directory().empty()) {
    PBKFS_ASSIGN_OR_RETURN(const std::string clean, CleanPath("directory", request.directory()));
    PBKFS_ASSIGN_OR_RETURN(const ResolvedPath resolved, policy_.Resolve("directory", clean));
    if (const auto opened = io_.OpenDir(resolved.path); !opened.ok()) {
      return WithField(
          ErrnoOf(opened.status()) == ENOENT ? DiffNotFound(resolved.path) : opened.status(),
          "directory");
    }
    paths.insert(resolved.path);
    AddCandidates(resolved.path, &paths);
  }
  AddCandidates(absl::StrCat(policy_.state_directory(), "/diffs"), &paths);
  std::map<std::string, std::string> mounts;  // Ids by path.
  for (const auto& mount : manager_.Mounts()) {
    mounts[mount->paths().diff] = mount->id();
    paths.insert(mount->paths().diff);
  }
  for (const std::string& path : paths) {
    // What is no diff, can't be opened, or went away meanwhile is not in the list.
    const auto summary = ReadDiffSummary(io_, path);
    if (!summary.ok() || !summary->has_value() || !Owns(caller, **summary)) continue;
    v1::Diff* out = response->add_diffs();
    out->set_path(ToUtf8(path));
    FillDiff(**summary, out);
    if (const auto mount = mounts.find(path); mount != mounts.end()) {
      out->set_mount_id(mount->second);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Image>> DiffServiceImpl::ImageOf(
    const v1::CheckDiffRequest& request, const std::string& path) {
  PBKFS_ASSIGN_OR_RETURN(const auto directory, io_.OpenDir(path));
  const auto binding = ReadBinding(*directory);
  // The check itself tells what is wrong with it.
  if (!binding.ok() || !binding->has_value()) return nullptr;
  PBKFS_ASSIGN_OR_RETURN(const std::string clean, CleanPath("store", request.store()));
  PBKFS_ASSIGN_OR_RETURN(const ResolvedPath store, policy_.Resolve("store", clean));
  PBKFS_ASSIGN_OR_RETURN(const std::unique_ptr<Catalog> catalog, Catalog::Open(store.path));
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const Instance> instance,
                         catalog->OpenInstance(request.instance()));
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const Image> image,
                         images_.Get(instance, (*binding)->backup_id(), /*force=*/true));
  v1::Owner owner;
  owner.set_uid((*binding)->owner_uid());
  owner.set_gid((*binding)->owner_gid());
  PBKFS_RETURN_IF_ERROR(WithField(
      CheckBinding(**binding, DiffIdentityOf(*image, request.instance(), owner), path), "store"));
  return image;
}

absl::Status DiffServiceImpl::DoCheckDiff(const v1::CheckDiffRequest& request, const Caller& caller,
                                          v1::CheckDiffResponse* response) {
  if (request.store().empty() != request.instance().empty()) {
    return InvalidField(request.store().empty() ? "store" : "instance",
                        "store and instance belong together");
  }
  PBKFS_ASSIGN_OR_RETURN(const std::string path, FindDiff(request.path(), request.mount_id()));
  PBKFS_RETURN_IF_ERROR(CheckOwner(caller, path));
  PBKFS_RETURN_IF_ERROR(CheckUnused(path));
  std::shared_ptr<const Image> image;
  if (!request.store().empty()) {
    PBKFS_ASSIGN_OR_RETURN(image, ImageOf(request, path));
  }
  DiffCheckOptions options;
  options.lower = image.get();
  options.repair = request.repair();
  const absl::StatusOr<DiffCheckReport> report = pbkfs::CheckDiff(io_, path, options);
  if (absl::IsNotFound(report.status()) && ReasonOf(report.status()).empty()) {
    return DiffNotFound(path);
  }
  if (!report.ok()) return WithField(report.status(), "path");
  response->set_path(ToUtf8(path));
  response->set_image_checked(image != nullptr);
  FillReport(*report, response);
  return absl::OkStatus();
}

absl::Status DiffServiceImpl::DoDeleteDiff(const v1::DeleteDiffRequest& request,
                                           const Caller& caller, v1::DeleteDiffResponse* response) {
  const absl::StatusOr<std::string> path = FindDiff(request.path(), request.mount_id());
  if (ReasonOf(path.status()) == reason::kDiffNotFound && request.allow_missing()) {
    response->set_path(request.path());
    return absl::OkStatus();
  }
  PBKFS_RETURN_IF_ERROR(path.status());
  PBKFS_RETURN_IF_ERROR(CheckOwner(caller, *path));
  PBKFS_RETURN_IF_ERROR(CheckUnused(*path));
  const absl::Status status = WithField(DiffStore::Delete(io_, *path), "path");
  const bool gone = ReasonOf(status) == reason::kDiffNotFound && request.allow_missing();
  if (!status.ok() && !gone) return status;
  response->set_path(ToUtf8(*path));
  response->set_deleted(!gone);
  return absl::OkStatus();
}

grpc::Status DiffServiceImpl::ListDiffs(grpc::ServerContext* context,
                                        const v1::ListDiffsRequest* request,
                                        v1::ListDiffsResponse* response) {
  RpcCall call(gate_, *context, "DiffService.ListDiffs", nullptr);
  return call.Run([&](const Caller& caller) { return DoListDiffs(*request, caller, response); });
}

grpc::Status DiffServiceImpl::CheckDiff(grpc::ServerContext* context,
                                        const v1::CheckDiffRequest* request,
                                        v1::CheckDiffResponse* response) {
  RpcCall call(gate_, *context, "DiffService.CheckDiff", request->repair() ? request : nullptr);
  return call.Run([&](const Caller& caller) { return DoCheckDiff(*request, caller, response); });
}

grpc::Status DiffServiceImpl::DeleteDiff(grpc::ServerContext* context,
                                         const v1::DeleteDiffRequest* request,
                                         v1::DeleteDiffResponse* response) {
  RpcCall call(gate_, *context, "DiffService.DeleteDiff", request);
  return call.Run([&](const Caller& caller) { return DoDeleteDiff(*request, caller, response); });
}

}  // namespace pbkfs
