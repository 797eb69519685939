#include "fs/diff/binding.h"

#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <sys/stat.h>

#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fs/base/crc32c.h"
#include "fs/base/status.h"
#include "fs/diff/diff_directory.h"

namespace pbkfs {
namespace {

constexpr uint32_t kDiffFormatVersion = 1;
constexpr int64_t kMaxBindingBytes = 1 << 20;
constexpr char kStaleBlockRule[] = "cap";

absl::Status Elsewhere(const std::string& path, absl::string_view what, absl::string_view has,
                       absl::string_view wanted) {
  return ReasonError(
      absl::StatusCode::kFailedPrecondition, reason::kDiffBoundElsewhere,
      absl::StrCat(
          "the diff ", path, " belongs to ", what, " ", has, ", not to ", wanted,
          "; choose another diff directory, or delete this one if its changes are not wanted"));
}

uint32_t ChecksumOf(v1::DiffBinding binding) {
  binding.clear_checksum();
  binding.clear_tablespace_links();
  binding.clear_maker();
  binding.clear_targets();
  const std::string bytes = binding.SerializeAsString();
  const uint32_t crc = Crc32c(bytes.data(), bytes.size());
  return crc == 0 ? 1 : crc;  // 0 stands for none.
}

absl::Status Damaged(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kDiffCorrupt,
                     absl::StrCat("binding.json of the diff ", what,
                                  "; restore it from a copy, or use a new diff directory"));
}

}  // namespace

v1::DiffBinding MakeBinding(const DiffIdentity& identity) {
  v1::DiffBinding binding;
  binding.set_format_version(kDiffFormatVersion);
  binding.set_instance(identity.instance);
  binding.set_system_identifier(identity.system_identifier);
  binding.set_backup_id(identity.backup_id);
  binding.set_start_lsn(identity.start_lsn);
  binding.set_stop_lsn(identity.stop_lsn);
  binding.set_stale_block_rule(kStaleBlockRule);
  binding.set_list_hash(identity.list_hash);
  binding.set_owner_uid(identity.owner_uid);
  binding.set_owner_gid(identity.owner_gid);
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  binding.mutable_create_time()->set_seconds(now.tv_sec);
  return binding;
}

absl::Status CheckBinding(const v1::DiffBinding& binding, const DiffIdentity& identity,
                          const std::string& path) {
  const auto number = [](uint64_t value) { return absl::StrCat(value); };
  if (binding.instance() != identity.instance) {
    return Elsewhere(path, "instance", binding.instance(), identity.instance);
  }
  if (binding.system_identifier() != identity.system_identifier) {
    return Elsewhere(path, "system identifier", number(binding.system_identifier()),
                     number(identity.system_identifier));
  }
  if (binding.backup_id() != identity.backup_id) {
    return Elsewhere(path, "backup", binding.backup_id(), identity.backup_id);
  }
  if (binding.start_lsn() != identity.start_lsn || binding.stop_lsn() != identity.stop_lsn) {
    return Elsewhere(path, "WAL range", absl::StrCat(binding.start_lsn(), "-", binding.stop_lsn()),
                     absl::StrCat(identity.start_lsn, "-", identity.stop_lsn));
  }
  if (binding.stale_block_rule() != kStaleBlockRule) {
    return Elsewhere(path, "stale-block rule", binding.stale_block_rule(), kStaleBlockRule);
  }
  if (binding.list_hash() != identity.list_hash) {
    return Elsewhere(path, "an image with file list", binding.list_hash(), identity.list_hash);
  }
  if (binding.owner_uid() != identity.owner_uid || binding.owner_gid() != identity.owner_gid) {
    return Elsewhere(path, "owner", absl::StrCat(binding.owner_uid(), ":", binding.owner_gid()),
                     absl::StrCat(identity.owner_uid, ":", identity.owner_gid));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<v1::DiffBinding>> ReadBinding(IoDir& directory, const char* name) {
  // Without waiting: what has this name may be anything.
  auto file = directory.OpenFile(name, O_RDONLY | O_NONBLOCK, 0);
  if (!file.ok() && ErrnoOf(file.status()) == ENOENT) return std::optional<v1::DiffBinding>();
  if (!file.ok()) return file.status();
  PBKFS_ASSIGN_OR_RETURN(const struct stat attributes, (*file)->Stat());
  if (!S_ISREG(attributes.st_mode)) return Damaged("is not a file");
  std::vector<uint8_t> bytes(kMaxBindingBytes);
  PBKFS_ASSIGN_OR_RETURN(const size_t count, (*file)->Read(0, absl::MakeSpan(bytes)));
  const std::string text(reinterpret_cast<const char*>(bytes.data()), count);
  v1::DiffBinding binding;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;  // So that a newer version is told from damage.
  const auto parsed = google::protobuf::util::JsonStringToMessage(text, &binding, options);
  if (!parsed.ok() || binding.format_version() == 0) return Damaged("is damaged");
  if (binding.format_version() > kDiffFormatVersion) {
    return ReasonError(
        absl::StatusCode::kUnimplemented, reason::kUnsupportedFormat,
        absl::StrCat("the diff has format version ", binding.format_version(),
                     ", this program knows ", kDiffFormatVersion, "; use a newer pbkfsd"));
  }
  if (binding.checksum() != 0 && binding.checksum() != ChecksumOf(binding)) {
    return Damaged("does not fit its checksum");
  }
  return std::optional<v1::DiffBinding>(std::move(binding));
}

absl::Status WriteBinding(IoDir& directory, v1::DiffBinding binding) {
  binding.set_checksum(ChecksumOf(binding));
  std::string text;
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  const auto printed = google::protobuf::util::MessageToJsonString(binding, &text, options);
  if (!printed.ok()) {
    return absl::InternalError(absl::StrCat("can't print binding.json: ", printed.ToString()));
  }
  PBKFS_ASSIGN_OR_RETURN(const auto file,
                         directory.OpenFile(kNewBindingName, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  PBKFS_RETURN_IF_ERROR(
      file->Write(0, {reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  PBKFS_RETURN_IF_ERROR(file->DataSync());
  PBKFS_RETURN_IF_ERROR(directory.Rename(kNewBindingName, directory, kBindingName));
  return directory.Sync();
}

}  // namespace pbkfs
