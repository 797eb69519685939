// The part of mount_plan.h that looks at the request alone.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fs/base/status.h"
#include "google/protobuf/util/message_differencer.h"
#include "service/limits.h"
#include "service/mount_plan.h"
#include "service/recovery_settings.h"

namespace pbkfs {
namespace {

absl::Status InvalidField(absl::string_view field, absl::string_view message) {
  return WithField(ReasonError(absl::StatusCode::kInvalidArgument, reason::kInvalidField,
                               absl::StrCat(field, ": ", message)),
                   field);
}

// A single directory name below backups/; empty is allowed for the backup.
absl::Status CheckName(absl::string_view field, const std::string& name) {
  if (name == "." || name == ".." || absl::StrContains(name, '/') || name.size() > 255) {
    return InvalidField(field, absl::StrCat("'", name, "' is not a name"));
  }
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 0x20)
      return InvalidField(field, "holds a control character");
  }
  return absl::OkStatus();
}

// pg_ctl pastes these into a shell command of its own, between double quotes.
absl::Status CheckTargetCharacters(const std::string& target) {
  for (const char c : target) {
    if (c == '"' || c == '$' || c == '`' || c == '\\') {
      return InvalidField("target", absl::StrCat("'", target, "' holds ", absl::string_view(&c, 1),
                                                 ", and pg_ctl can't start a server in such a "
                                                 "directory; choose another name"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckEnums(const v1::MountRequest& request) {
  if (!v1::CatalogLock_IsValid(request.catalog_lock())) {
    return InvalidField("catalog_lock", "unknown value");
  }
  if (!v1::TablespaceMode_IsValid(request.tablespaces())) {
    return InvalidField("tablespaces", "unknown value");
  }
  return absl::OkStatus();
}

std::string NormalBackupId(const std::string& id) {
  return id.empty() || absl::EqualsIgnoreCase(id, "latest") ? "latest" : absl::AsciiStrToUpper(id);
}

}  // namespace

absl::Status CheckMountId(const std::string& id) {
  bool valid = !id.empty() && id.size() <= kMaxMountIdLength &&
               absl::ascii_islower(static_cast<unsigned char>(id[0]));
  for (const char c : id) {
    valid = valid && (absl::ascii_islower(static_cast<unsigned char>(c)) ||
                      absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '-');
  }
  if (valid) return absl::OkStatus();
  return InvalidField("mount_id", absl::StrCat("'", id, "' must match [a-z][a-z0-9-]{0,",
                                               kMaxMountIdLength - 1, "}"));
}

std::string MountIdFromTarget(absl::string_view target) {
  while (absl::EndsWith(target, "/")) target.remove_suffix(1);
  std::string id = absl::AsciiStrToLower(target.substr(target.rfind('/') + 1));
  for (char& c : id) {
    const auto byte = static_cast<unsigned char>(c);
    if (!absl::ascii_islower(byte) && !absl::ascii_isdigit(byte)) c = '-';
  }
  // An id begins with a letter.
  if (!id.empty() && !absl::ascii_islower(static_cast<unsigned char>(id[0])))
    id = absl::StrCat("m", id);
  return id.substr(0, kMaxMountIdLength);
}

absl::StatusOr<v1::MountRequest> NormalizeRequest(const v1::MountRequest& request,
                                                  const std::string& state_directory,
                                                  const v1::MountDefaults& defaults) {
  v1::MountRequest normal = request;
  PBKFS_ASSIGN_OR_RETURN(*normal.mutable_target(), CleanPath("target", request.target()));
  PBKFS_RETURN_IF_ERROR(CheckTargetCharacters(normal.target()));
  if (normal.mount_id().empty()) normal.set_mount_id(MountIdFromTarget(normal.target()));
  PBKFS_RETURN_IF_ERROR(CheckMountId(normal.mount_id()));
  PBKFS_ASSIGN_OR_RETURN(*normal.mutable_store(), CleanPath("store", request.store()));
  if (normal.instance().empty()) return InvalidField("instance", "is missing");
  PBKFS_RETURN_IF_ERROR(CheckName("instance", normal.instance()));
  PBKFS_RETURN_IF_ERROR(CheckName("backup_id", normal.backup_id()));
  normal.set_backup_id(NormalBackupId(normal.backup_id()));
  if (normal.diff_dir().empty()) {
    normal.set_diff_dir(absl::StrCat(state_directory, "/diffs/", normal.mount_id()));
  }
  PBKFS_ASSIGN_OR_RETURN(*normal.mutable_diff_dir(), CleanPath("diff_dir", normal.diff_dir()));
  PBKFS_RETURN_IF_ERROR(CheckEnums(normal));
  if (normal.catalog_lock() == v1::CATALOG_LOCK_UNSPECIFIED) {
    normal.set_catalog_lock(defaults.catalog_lock());
  }
  if (normal.tablespaces() == v1::TABLESPACE_MODE_UNSPECIFIED) {
    normal.set_tablespaces(v1::TABLESPACE_MODE_DIRECTORY);
  }
  if (!normal.has_materialize_on_read()) {
    normal.set_materialize_on_read(defaults.materialize_on_read());
  }
  if (normal.threads() == 0) normal.set_threads(defaults.threads());
  if (normal.threads() > kMaxThreads) {
    return InvalidField("threads", absl::StrCat("at most ", kMaxThreads));
  }
  if (normal.diff_limit_bytes() == 0) normal.set_diff_limit_bytes(defaults.diff_limit_bytes());
  if (normal.diff_limit_bytes() < 0) return InvalidField("diff_limit_bytes", "is negative");
  if (static_cast<size_t>(normal.settings_size()) > kMaxSettings) {
    return InvalidField("settings", absl::StrCat("at most ", kMaxSettings));
  }
  if (normal.has_recovery()) {
    PBKFS_ASSIGN_OR_RETURN(*normal.mutable_recovery(), NormalizeRecovery(normal.recovery()));
  }
  for (const auto& [name, value] : normal.settings()) {
    PBKFS_RETURN_IF_ERROR(CheckRequestedSetting(name, value));
  }
  return normal;
}

v1::MountRequest WithDefaultsOf(const v1::MountRequest& first, const v1::MountRequest& original,
                                v1::MountRequest again) {
  if (!original.has_materialize_on_read()) {
    again.set_materialize_on_read(first.materialize_on_read());
  }
  if (original.catalog_lock() == v1::CATALOG_LOCK_UNSPECIFIED) {
    again.set_catalog_lock(first.catalog_lock());
  }
  if (original.threads() == 0) again.set_threads(first.threads());
  if (original.diff_limit_bytes() == 0) again.set_diff_limit_bytes(first.diff_limit_bytes());
  return again;
}

std::string DifferenceOf(const v1::MountRequest& first, const v1::MountRequest& again,
                         const std::string& backup_id) {
  v1::MountRequest a = first;
  v1::MountRequest b = again;
  a.clear_validate_only();
  b.clear_validate_only();
  // "latest" and the id that it became are the same backup, whichever of both was asked for first:
  // a mount that was made again after a restart has the id.
  if (b.backup_id() == backup_id || b.backup_id() == "latest") a.set_backup_id(b.backup_id());
  std::vector<std::string> different;
  const google::protobuf::Descriptor& fields = *v1::MountRequest::descriptor();
  for (int i = 0; i < fields.field_count(); ++i) {
    v1::MountRequest one;
    v1::MountRequest other;
    a.GetReflection()->SwapFields(&a, &one, {fields.field(i)});
    b.GetReflection()->SwapFields(&b, &other, {fields.field(i)});
    if (google::protobuf::util::MessageDifferencer::Equals(one, other)) continue;
    different.push_back(fields.field(i)->name());
  }
  return absl::StrJoin(different, ", ");
}

}  // namespace pbkfs
