#include "service/catalog_service.h"

#include <vector>

#include "absl/strings/match.h"
#include "fs/base/status.h"
#include "fs/catalog/chain.h"
#include "fs/catalog/lineage.h"
#include "service/proto_convert.h"
#include "service/rpc_call.h"
#include "service/utf8.h"

namespace pbkfs {
namespace {

void SetTime(int64_t seconds, google::protobuf::Timestamp* (v1::Backup::*field)(),
             v1::Backup* out) {
  if (seconds != 0) (out->*field)()->set_seconds(seconds);
}

void FillBackup(const Instance& instance, const Lineage& lineage, const Backup& backup,
                v1::Backup* out) {
  const BackupControl& control = backup.control;
  out->set_backup_id(ToUtf8(backup.id));
  out->set_instance(ToUtf8(instance.name()));
  if (control.mode != BackupMode::kUnknown)
    out->set_mode(std::string(BackupModeName(control.mode)));
  out->set_status(control.status_text.empty() ? "UNKNOWN" : ToUtf8(control.status_text));
  out->set_parent_id(ToUtf8(control.parent_id));
  out->set_stream(control.stream);
  out->set_compress_alg(ToUtf8(control.compress_alg));
  out->set_server_version(ToUtf8(control.server_version));
  out->set_program_version(ToUtf8(control.program_version_text));
  out->set_timeline(control.timeline);
  out->set_start_lsn(FormatLsn(control.start_lsn));
  out->set_stop_lsn(FormatLsn(control.stop_lsn));
  SetTime(control.start_time, &v1::Backup::mutable_start_time, out);
  SetTime(control.end_time, &v1::Backup::mutable_end_time, out);
  SetTime(control.recovery_time, &v1::Backup::mutable_recovery_time, out);
  out->set_data_bytes(control.data_bytes);
  out->set_wal_bytes(control.wal_bytes);
  out->set_pgdata_bytes(control.pgdata_bytes);
  out->set_note(ToUtf8(control.note));
  out->set_logical_bytes(-1);
  const absl::Status mountable = lineage.Check(backup);
  out->set_mountable(mountable.ok());
  if (!mountable.ok()) {
    out->set_unmountable_reason(ReasonOf(mountable));
    out->set_unmountable_message(ToUtf8(mountable.message()));
  }
}

}  // namespace

CatalogServiceImpl::CatalogServiceImpl(const PathPolicy& policy, ImageRegistry& images,
                                       CallGate& gate)
    : policy_(policy), images_(images), gate_(gate) {}

absl::StatusOr<std::unique_ptr<Catalog>> CatalogServiceImpl::OpenCatalog(
    const std::string& store) const {
  PBKFS_ASSIGN_OR_RETURN(const std::string clean, CleanPath("store", store));
  PBKFS_ASSIGN_OR_RETURN(const ResolvedPath resolved, policy_.Resolve("store", clean));
  return Catalog::Open(resolved.path);
}

absl::Status CatalogServiceImpl::DoListInstances(const v1::ListInstancesRequest& request,
                                                 v1::ListInstancesResponse* response) const {
  PBKFS_ASSIGN_OR_RETURN(const std::unique_ptr<Catalog> catalog, OpenCatalog(request.store()));
  PBKFS_ASSIGN_OR_RETURN(const std::vector<std::string> names, catalog->ListInstances());
  for (const std::string& name : names) {
    v1::Instance* out = response->add_instances();
    out->set_name(ToUtf8(name));
    // An instance whose configuration is damaged is still listed.
    const absl::StatusOr<std::shared_ptr<const Instance>> instance = catalog->OpenInstance(name);
    if (!instance.ok()) continue;
    out->set_system_identifier((*instance)->config().system_identifier);
    out->set_pgdata(ToUtf8((*instance)->config().pgdata));
  }
  return absl::OkStatus();
}

absl::Status CatalogServiceImpl::DoListBackups(const v1::ListBackupsRequest& request,
                                               v1::ListBackupsResponse* response) const {
  PBKFS_ASSIGN_OR_RETURN(const std::unique_ptr<Catalog> catalog, OpenCatalog(request.store()));
  std::vector<std::string> names;
  if (request.instance().empty()) {
    PBKFS_ASSIGN_OR_RETURN(names, catalog->ListInstances());
  } else {
    names.push_back(request.instance());
  }
  for (const std::string& name : names) {
    PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const Instance> instance,
                           catalog->OpenInstance(name));
    PBKFS_ASSIGN_OR_RETURN(const std::vector<Backup> backups, instance->ListBackups());
    const Lineage lineage(backups, false);
    for (const Backup& backup : backups) {
      FillBackup(*instance, lineage, backup, response->add_backups());
    }
  }
  return absl::OkStatus();
}

absl::Status CatalogServiceImpl::DoGetBackup(const v1::GetBackupRequest& request,
                                             v1::Backup* response) const {
  if (request.instance().empty()) {
    return WithField(ReasonError(absl::StatusCode::kInvalidArgument, reason::kInvalidField,
                                 "instance: is missing"),
                     "instance");
  }
  PBKFS_ASSIGN_OR_RETURN(const std::unique_ptr<Catalog> catalog, OpenCatalog(request.store()));
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const Instance> instance,
                         catalog->OpenInstance(request.instance()));
  PBKFS_ASSIGN_OR_RETURN(const std::vector<Backup> backups, instance->ListBackups());
  PBKFS_ASSIGN_OR_RETURN(const Backup* const backup,
                         FindBackup(backups, request.backup_id(), request.force()));
  FillBackup(*instance, Lineage(backups, request.force()), *backup, response);
  for (const std::string& directory : backup->control.external_dirs) {
    response->add_external_directories(ToUtf8(directory));
  }
  if (!response->mountable()) return absl::OkStatus();
  const absl::StatusOr<std::shared_ptr<const Image>> image =
      images_.Get(instance, backup->id, request.force());
  if (!image.ok()) {
    // The control files are fine, the lists are not: a mount would fail just so.
    response->set_mountable(false);
    response->set_unmountable_reason(ReasonOf(image.status()));
    response->set_unmountable_message(ToUtf8(image.status().message()));
    return absl::OkStatus();
  }
  for (const auto& member : (*image)->chain().members) ToProto(*member, response->add_chain());
  response->set_logical_bytes((*image)->info().logical_bytes);
  response->set_file_count((*image)->info().file_count);
  return absl::OkStatus();
}

grpc::Status CatalogServiceImpl::ListInstances(grpc::ServerContext* context,
                                               const v1::ListInstancesRequest* request,
                                               v1::ListInstancesResponse* response) {
  RpcCall call(gate_, *context, "CatalogService.ListInstances", nullptr);
  return call.Run([&](const Caller&) { return DoListInstances(*request, response); });
}

grpc::Status CatalogServiceImpl::ListBackups(grpc::ServerContext* context,
                                             const v1::ListBackupsRequest* request,
                                             v1::ListBackupsResponse* response) {
  RpcCall call(gate_, *context, "CatalogService.ListBackups", nullptr);
  return call.Run([&](const Caller&) { return DoListBackups(*request, response); });
}

grpc::Status CatalogServiceImpl::GetBackup(grpc::ServerContext* context,
                                           const v1::GetBackupRequest* request,
                                           v1::Backup* response) {
  RpcCall call(gate_, *context, "CatalogService.GetBackup", nullptr);
  return call.Run([&](const Caller&) { return DoGetBackup(*request, response); });
}

}  // namespace pbkfs
