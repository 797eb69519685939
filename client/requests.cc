// The part of arguments.h that makes requests.
#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "client/arguments.h"
#include "client/status_macros.h"
#include "client/table.h"

namespace pbkfs::client {
namespace {

absl::Status Usage(absl::string_view message) { return absl::InvalidArgumentError(message); }

// As the kernel would walk it: what stands above a symbolic link is above what it points to.
absl::StatusOr<std::string> AbsolutePath(const std::string& path, const std::string& directory) {
  if (path.empty()) return path;
  std::filesystem::path walked = "/";
  for (const std::filesystem::path& part : std::filesystem::path(directory) / path) {
    if (part == "/" || part.empty() || part == ".") continue;
    if (part != "..") {
      walked /= part;
      continue;
    }
    std::error_code unknown;
    if (std::filesystem::is_symlink(walked, unknown)) {
      const std::filesystem::path resolved = std::filesystem::canonical(walked, unknown);
      if (!unknown) walked = resolved;
    }
    walked = walked.parent_path();
  }
  std::string absolute = walked.string();
  // The directory that the client was called in may be no text for a message.
  if (IsUtf8(absolute)) return absolute;
  return Usage(absl::StrCat("the path ", absl::CHexEscape(absolute), ": is not UTF-8"));
}

absl::StatusOr<std::string> Required(const Arguments& arguments, const std::string& name) {
  std::string value = arguments.Value(name);
  if (value.empty()) return Usage(absl::StrCat(CommandTitle(arguments.command), " needs --", name));
  return value;
}

absl::Status TakeEnums(const Arguments& arguments, v1::MountRequest* request) {
  if (arguments.Has("catalog-lock")) {
    const std::string value = arguments.Value("catalog-lock");
    if (value == "auto") {
      request->set_catalog_lock(v1::CATALOG_LOCK_AUTO);
    } else if (value == "required") {
      request->set_catalog_lock(v1::CATALOG_LOCK_REQUIRED);
    } else if (value == "off") {
      request->set_catalog_lock(v1::CATALOG_LOCK_OFF);
    } else {
      return Usage(absl::StrCat("--catalog-lock ", value, ": use auto, required or off"));
    }
  }
  if (arguments.Has("tablespaces")) {
    const std::string value = arguments.Value("tablespaces");
    if (value == "directory") {
      request->set_tablespaces(v1::TABLESPACE_MODE_DIRECTORY);
    } else if (value == "symlink") {
      request->set_tablespaces(v1::TABLESPACE_MODE_SYMLINK);
    } else {
      return Usage(absl::StrCat("--tablespaces ", value, ": use directory or symlink"));
    }
  }
  return absl::OkStatus();
}

absl::Status TakeLimits(const Arguments& arguments, v1::MountRequest* request) {
  if (arguments.Has("diff-limit")) {
    const absl::StatusOr<int64_t> bytes = ParseSize(arguments.Value("diff-limit"));
    if (!bytes.ok() || *bytes == 0) {
      return Usage(absl::StrCat("--diff-limit ", arguments.Value("diff-limit"),
                                ": use a size such as 10GiB"));
    }
    request->set_diff_limit_bytes(*bytes);
  }
  uint32_t threads = 0;
  if (arguments.Has("threads") &&
      (!absl::SimpleAtoi(arguments.Value("threads"), &threads) || threads == 0)) {
    return Usage(absl::StrCat("--threads ", arguments.Value("threads"), ": use a number above 0"));
  }
  request->set_threads(threads);
  return absl::OkStatus();
}

absl::Status TakeSettings(const Arguments& arguments, v1::MountRequest* request) {
  const auto it = arguments.options.find("set");
  if (it == arguments.options.end()) return absl::OkStatus();
  for (const std::string& setting : it->second) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Usage(absl::StrCat("--set ", setting, ": use NAME=VALUE"));
    }
    (*request->mutable_settings())[setting.substr(0, equals)] = setting.substr(equals + 1);
  }
  return absl::OkStatus();
}

absl::StatusOr<google::protobuf::Duration> ParseWait(const std::string& text) {
  absl::Duration wait;
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds)) {
    wait = absl::Seconds(seconds);
  } else if (!absl::ParseDuration(text, &wait)) {
    return Usage(absl::StrCat("--wait ", text, ": use a number of seconds"));
  }
  if (wait < absl::ZeroDuration() || wait > absl::Hours(24 * 365)) {
    return Usage(absl::StrCat("--wait ", text, ": out of range"));
  }
  google::protobuf::Duration out;
  absl::Duration rest;
  out.set_seconds(absl::IDivDuration(wait, absl::Seconds(1), &rest));
  out.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  return out;
}

// A slash makes a path, as for unmount.
template <typename Request>
absl::Status TakeDiff(const Arguments& arguments, const std::string& directory, Request* request) {
  if (arguments.operands.empty()) {
    return Usage(absl::StrCat(CommandTitle(arguments.command), " needs a PATH or an ID"));
  }
  const std::string& operand = arguments.operands[0];
  if (absl::StrContains(operand, '/')) {
    CLIENT_ASSIGN_OR_RETURN(*request->mutable_path(), AbsolutePath(operand, directory));
  } else {
    request->set_mount_id(operand);
  }
  return absl::OkStatus();
}

bool ParsePointInTime(absl::string_view text, absl::Time* time) {
  std::string error;
  for (const char* format : {absl::RFC3339_full, "%Y-%m-%d%ET%H:%M:%E*S", "%Y-%m-%d %H:%M:%E*S%Ez",
                             "%Y-%m-%d %H:%M:%E*S %Ez", "%Y-%m-%d %H:%M:%E*S"}) {
    if (absl::ParseTime(format, text, absl::LocalTimeZone(), time, &error)) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<v1::Owner> ParseOwner(absl::string_view text) {
  const size_t colon = text.find(':');
  const std::string user(text.substr(0, colon));
  v1::Owner owner;
  uint32_t number = 0;
  if (absl::SimpleAtoi(user, &number)) {
    owner.set_uid(number);
    const struct passwd* entry = getpwuid(number);
    owner.set_gid(entry == nullptr ? number : entry->pw_gid);
  } else {
    const struct passwd* entry = user.empty() ? nullptr : getpwnam(user.c_str());
    if (entry == nullptr) return Usage(absl::StrCat("--owner ", text, ": there is no such user"));
    owner.set_uid(entry->pw_uid);
    owner.set_gid(entry->pw_gid);
  }
  if (colon == absl::string_view::npos) return owner;
  const std::string group(text.substr(colon + 1));
  if (absl::SimpleAtoi(group, &number)) {
    owner.set_gid(number);
    return owner;
  }
  const struct group* entry = group.empty() ? nullptr : getgrnam(group.c_str());
  if (entry == nullptr) return Usage(absl::StrCat("--owner ", text, ": there is no such group"));
  owner.set_gid(entry->gr_gid);
  return owner;
}

absl::StatusOr<int64_t> ParseSize(absl::string_view text) {
  const absl::string_view whole = text;
  const size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  double number = 0;
  const bool is_number = absl::SimpleAtod(text.substr(0, digits), &number);
  std::string unit = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text.substr(digits)));
  if (absl::EndsWith(unit, "ib")) {
    unit.resize(unit.size() - 2);
  } else if (absl::EndsWith(unit, "b")) {
    unit.resize(unit.size() - 1);
  }
  constexpr absl::string_view kUnits = "kmgtp";
  const size_t power = unit.empty() ? 0 : kUnits.find(unit) + 1;
  for (size_t i = 0; i < power; ++i) number *= 1024;
  if (!is_number || unit.size() > 1 || (!unit.empty() && power == 0) || number >= 9e18) {
    return Usage(absl::StrCat("'", whole, "' is no size; use a number of bytes, or 10GiB"));
  }
  return static_cast<int64_t>(number);
}

absl::StatusOr<v1::Recovery> ParseRecoveryTarget(absl::string_view text) {
  v1::Recovery recovery;
  const absl::string_view whole = text;
  uint64_t xid = 0;
  absl::Time time;
  if (text == "immediate") {
    recovery.set_immediate(true);
  } else if (text == "latest") {
    recovery.set_latest(true);
  } else if (absl::ConsumePrefix(&text, "xid=") && absl::SimpleAtoi(text, &xid)) {
    recovery.set_xid(xid);
  } else if (absl::ConsumePrefix(&text, "lsn=") && absl::StrContains(text, '/')) {
    recovery.set_lsn(std::string(text));
  } else if (absl::ConsumePrefix(&text, "name=") && !text.empty()) {
    recovery.set_name(std::string(text));
  } else if (absl::ConsumePrefix(&text, "time=") && ParsePointInTime(text, &time)) {
    const int64_t seconds = absl::ToUnixSeconds(time);
    recovery.mutable_time()->set_seconds(seconds);
    recovery.mutable_time()->set_nanos(
        static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
  } else {
    return Usage(absl::StrCat("--recovery-target ", whole,
                              ": use immediate, latest, time=2026-01-31T12:00:00Z, xid=…, lsn=X/Y "
                              "or name=…"));
  }
  return recovery;
}

namespace {

absl::Status TakeRecovery(const Arguments& arguments, v1::MountRequest* request) {
  if (!arguments.Has("recovery-target")) {
    for (const char* name : {"recovery-timeline", "recovery-action", "recovery-exclusive"}) {
      if (arguments.Has(name)) return Usage(absl::StrCat("--", name, " needs --recovery-target"));
    }
    return absl::OkStatus();
  }
  CLIENT_ASSIGN_OR_RETURN(*request->mutable_recovery(),
                          ParseRecoveryTarget(arguments.Value("recovery-target")));
  request->mutable_recovery()->set_timeline(arguments.Value("recovery-timeline"));
  request->mutable_recovery()->set_action(arguments.Value("recovery-action"));
  if (arguments.Has("recovery-exclusive")) request->mutable_recovery()->set_inclusive(false);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::MountRequest> MountRequestOf(const Arguments& arguments,
                                                const std::string& directory) {
  v1::MountRequest request;
  CLIENT_ASSIGN_OR_RETURN(const std::string store, Required(arguments, "store"));
  CLIENT_ASSIGN_OR_RETURN(*request.mutable_instance(), Required(arguments, "instance"));
  CLIENT_ASSIGN_OR_RETURN(const std::string target, Required(arguments, "target"));
  CLIENT_ASSIGN_OR_RETURN(*request.mutable_store(), AbsolutePath(store, directory));
  CLIENT_ASSIGN_OR_RETURN(*request.mutable_target(), AbsolutePath(target, directory));
  CLIENT_ASSIGN_OR_RETURN(*request.mutable_diff_dir(),
                          AbsolutePath(arguments.Value("diff"), directory));
  request.set_mount_id(arguments.Value("id"));
  request.set_backup_id(arguments.Value("backup"));
  if (arguments.Has("owner")) {
    CLIENT_ASSIGN_OR_RETURN(*request.mutable_owner(), ParseOwner(arguments.Value("owner")));
  }
  request.set_read_only(arguments.Has("read-only"));
  if (arguments.Has("materialize-on-read")) request.set_materialize_on_read(true);
  request.set_ephemeral(arguments.Has("ephemeral"));
  request.set_restore(arguments.Has("restore"));
  CLIENT_RETURN_IF_ERROR(TakeLimits(arguments, &request));
  request.set_force(arguments.Has("force"));
  CLIENT_RETURN_IF_ERROR(TakeEnums(arguments, &request));
  CLIENT_RETURN_IF_ERROR(TakeRecovery(arguments, &request));
  CLIENT_RETURN_IF_ERROR(TakeSettings(arguments, &request));
  request.set_default_config(arguments.Has("default-config"));
  request.set_allow_tablespace_wal(arguments.Has("allow-tablespace-wal"));
  request.set_validate_only(arguments.Has("dry-run"));
  return request;
}

absl::StatusOr<v1::UnmountRequest> UnmountRequestOf(const Arguments& arguments,
                                                    const std::string& directory) {
  if (arguments.operands.empty()) return Usage("unmount needs an ID or a TARGET");
  v1::UnmountRequest request;
  const std::string& operand = arguments.operands[0];
  if (absl::StrContains(operand, '/')) {
    CLIENT_ASSIGN_OR_RETURN(*request.mutable_target(), AbsolutePath(operand, directory));
  } else {
    request.set_mount_id(operand);
  }
  if (arguments.Has("wait")) {
    CLIENT_ASSIGN_OR_RETURN(*request.mutable_wait(), ParseWait(arguments.Value("wait")));
  }
  request.set_force(arguments.Has("force"));
  request.set_delete_diff(arguments.Has("delete-diff"));
  return request;
}

absl::StatusOr<v1::ListBackupsRequest> ListBackupsRequestOf(const Arguments& arguments,
                                                            const std::string& directory) {
  v1::ListBackupsRequest request;
  CLIENT_ASSIGN_OR_RETURN(const std::string store, Required(arguments, "store"));
  CLIENT_ASSIGN_OR_RETURN(*request.mutable_store(), AbsolutePath(store, directory));
  request.set_instance(arguments.Value("instance"));
  return request;
}

absl::StatusOr<v1::StatsRequest> StatsRequestOf(const Arguments& arguments) {
  v1::StatsRequest request;
  if (!arguments.operands.empty()) request.set_mount_id(arguments.operands[0]);
  return request;
}

absl::StatusOr<v1::ListDiffsRequest> ListDiffsRequestOf(const Arguments& arguments,
                                                        const std::string& directory) {
  v1::ListDiffsRequest request;
  CLIENT_ASSIGN_OR_RETURN(*request.mutable_directory(),
                          AbsolutePath(arguments.Value("dir"), directory));
  return request;
}

absl::StatusOr<v1::CheckDiffRequest> CheckDiffRequestOf(const Arguments& arguments,
                                                        const std::string& directory) {
  v1::CheckDiffRequest request;
  CLIENT_RETURN_IF_ERROR(TakeDiff(arguments, directory, &request));
  request.set_repair(arguments.Has("repair"));
  if (arguments.Has("store") != arguments.Has("instance")) {
    return Usage("diff check: --store and --instance belong together");
  }
  CLIENT_ASSIGN_OR_RETURN(*request.mutable_store(),
                          AbsolutePath(arguments.Value("store"), directory));
  request.set_instance(arguments.Value("instance"));
  return request;
}

absl::StatusOr<v1::DeleteDiffRequest> DeleteDiffRequestOf(const Arguments& arguments,
                                                          const std::string& directory) {
  v1::DeleteDiffRequest request;
  CLIENT_RETURN_IF_ERROR(TakeDiff(arguments, directory, &request));
  request.set_allow_missing(arguments.Has("missing-ok"));
  return request;
}

absl::StatusOr<v1::DebugDumpRequest> DebugDumpRequestOf(const Arguments& arguments) {
  v1::DebugDumpRequest request;
  uint32_t lines = 0;
  if (arguments.Has("lines") &&
      (!absl::SimpleAtoi(arguments.Value("lines"), &lines) || lines == 0)) {
    return Usage(absl::StrCat("--lines ", arguments.Value("lines"), ": use a number above 0"));
  }
  request.set_log_lines(lines);
  return request;
}

absl::StatusOr<v1::SetLogLevelRequest> SetLogLevelRequestOf(const Arguments& arguments) {
  if (arguments.operands.empty()) {
    return Usage("daemon log-level needs one of trace, debug, info, warn, error");
  }
  v1::SetLogLevelRequest request;
  request.set_level(arguments.operands[0]);
  return request;
}

}  // namespace pbkfs::client
