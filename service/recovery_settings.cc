#include "service/recovery_settings.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "fs/base/status.h"
#include "fs/catalog/control_file.h"

namespace pbkfs {
namespace {

using Target = v1::Recovery::TargetCase;

constexpr char kRestoreCommandName[] = "restore_command";
// Relative to PGDATA, where the server runs it, so that it works wherever the server sees the
// mount. 1 = there is no such file, the archive ends; 126 = anything else is wrong. PostgreSQL ends
// recovery, and promotes, after the first, but stops with an error after the second.
constexpr char kRestoreCommand[] =
    "test -d .pbkfs/wal || exit 126; test -e .pbkfs/wal/%f || exit 1; "
    "cp .pbkfs/wal/%f \"%p\" || exit 126";

// As PostgreSQL's own bound on the names of restore points.
constexpr size_t kMaxRestorePointName = 63;
constexpr char kTimeFormat[] = "%Y-%m-%d %H:%M:%E*S+00";
// What a setting of the server can hold.
constexpr absl::Time kFirstTime = absl::UnixEpoch();
constexpr absl::Time kLastTime = absl::FromUnixSeconds(253402300800);  // The year 10000.

absl::Status Invalid(absl::string_view message) {
  return WithField(ReasonError(absl::StatusCode::kInvalidArgument, reason::kInvalidField,
                               absl::StrCat("recovery: ", message)),
                   "recovery");
}

absl::Time TimeOf(const v1::Recovery& recovery) {
  return absl::FromUnixSeconds(recovery.time().seconds()) +
         absl::Nanoseconds(recovery.time().nanos());
}

void SetTime(absl::Time time, v1::Recovery* recovery) {
  const int64_t seconds = absl::ToUnixSeconds(time);
  recovery->mutable_time()->set_seconds(seconds);
  recovery->mutable_time()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
}

absl::Status NormalizeTime(v1::Recovery* recovery) {
  if (recovery->time().nanos() < 0 || recovery->time().nanos() > 999'999'999) {
    return Invalid("time: nanos is out of range");
  }
  // The server counts microseconds.
  const absl::Time time = absl::FromUnixMicros(absl::ToUnixMicros(TimeOf(*recovery)));
  if (time < kFirstTime || time >= kLastTime) return Invalid("time is out of range");
  SetTime(time, recovery);
  return absl::OkStatus();
}

absl::Status NormalizeName(const v1::Recovery& recovery) {
  const std::string& name = recovery.name();
  if (name.empty() || name.size() > kMaxRestorePointName) {
    return Invalid(absl::StrCat("name has 1 to ", kMaxRestorePointName, " bytes"));
  }
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 0x20) return Invalid("name holds a control character");
  }
  return absl::OkStatus();
}

absl::Status NormalizeTarget(v1::Recovery* recovery) {
  switch (recovery->target_case()) {
    case Target::TARGET_NOT_SET:
      return Invalid("name a target: immediate, latest, time, xid, lsn or name");
    case Target::kImmediate:
      if (!recovery->immediate()) return Invalid("immediate is false: name a target");
      return absl::OkStatus();
    case Target::kLatest:
      if (!recovery->latest()) return Invalid("latest is false: name a target");
      return absl::OkStatus();
    case Target::kTime:
      return NormalizeTime(recovery);
    case Target::kXid:
      // Below are the ids of no transaction.
      if ((recovery->xid() & UINT32_MAX) < 3) return Invalid("xid is that of no transaction");
      return absl::OkStatus();
    case Target::kLsn: {
      Lsn lsn = 0;
      if (!ParseLsn(recovery->lsn(), lsn) || lsn == 0 || lsn > kMaxLsn) {
        return Invalid(absl::StrCat("lsn '", recovery->lsn(), "' is not of the form 16/B374D848"));
      }
      recovery->set_lsn(FormatLsn(lsn));
      return absl::OkStatus();
    }
    case Target::kName:
      return NormalizeName(*recovery);
  }
  return Invalid("unknown target");
}

absl::Status NormalizeTimeline(v1::Recovery* recovery) {
  if (recovery->timeline().empty()) {
    recovery->set_timeline(recovery->has_latest() ? "latest" : "current");
  }
  const std::string& timeline = recovery->timeline();
  uint32_t number = 0;
  if (timeline == "current" || timeline == "latest") return absl::OkStatus();
  if (!absl::SimpleAtoi(timeline, &number) || number == 0) {
    return Invalid(absl::StrCat("timeline '", timeline, "': use a number, current or latest"));
  }
  recovery->set_timeline(absl::StrCat(number));
  return absl::OkStatus();
}

bool TakesInclusive(const v1::Recovery& recovery) {
  return recovery.has_time() || recovery.has_xid() || recovery.has_lsn();
}

// The block of recovery settings: [first, second), empty where there is none.
std::pair<size_t, size_t> FindBlock(const SettingList& settings) {
  const auto command =
      std::find(settings.begin(), settings.end(),
                std::pair<std::string, std::string>(kRestoreCommandName, kRestoreCommand));
  if (command == settings.end()) return {0, 0};
  auto first = command;
  while (first != settings.begin() && absl::StartsWith((first - 1)->first, "recovery_target")) {
    --first;
  }
  return {static_cast<size_t>(first - settings.begin()),
          static_cast<size_t>(command - settings.begin()) + 1};
}

void TakeSetting(const std::string& name, const std::string& value, v1::Recovery* recovery) {
  if (name == "recovery_target_name") recovery->set_name(value);
  if (name == "recovery_target_lsn") recovery->set_lsn(value);
  if (name == "recovery_target") recovery->set_immediate(true);
  if (name == "recovery_target_inclusive") recovery->set_inclusive(value == "true");
  if (name == "recovery_target_timeline") recovery->set_timeline(value);
  if (name == "recovery_target_action") recovery->set_action(value);
  uint64_t xid = 0;
  if (name == "recovery_target_xid" && absl::SimpleAtoi(value, &xid)) recovery->set_xid(xid);
  absl::Time time;
  std::string error;
  if (name == "recovery_target_time" && absl::ParseTime(kTimeFormat, value, &time, &error)) {
    SetTime(time, recovery);
  }
}

}  // namespace

absl::StatusOr<v1::Recovery> NormalizeRecovery(const v1::Recovery& recovery) {
  v1::Recovery normal = recovery;
  PBKFS_RETURN_IF_ERROR(NormalizeTarget(&normal));
  PBKFS_RETURN_IF_ERROR(NormalizeTimeline(&normal));
  if (normal.action().empty()) normal.set_action("promote");
  if (normal.action() != "pause" && normal.action() != "promote" && normal.action() != "shutdown") {
    return Invalid(absl::StrCat("action '", normal.action(), "': use pause, promote or shutdown"));
  }
  if (!TakesInclusive(normal) && normal.has_inclusive()) {
    return Invalid("inclusive goes with time, xid or lsn only");
  }
  if (TakesInclusive(normal) && !normal.has_inclusive()) normal.set_inclusive(true);
  return normal;
}

v1::Recovery ArchiveRecovery() {
  v1::Recovery recovery;
  recovery.set_immediate(true);
  recovery.set_timeline("current");
  recovery.set_action("promote");
  return recovery;
}

RecoveryTarget TargetOf(const v1::Recovery& recovery) {
  RecoveryTarget target;
  target.inclusive = !recovery.has_inclusive() || recovery.inclusive();
  switch (recovery.target_case()) {
    case Target::TARGET_NOT_SET:
    case Target::kImmediate:
      target.kind = RecoveryTarget::Kind::kImmediate;
      break;
    case Target::kLatest:
      target.kind = RecoveryTarget::Kind::kLatest;
      break;
    case Target::kTime:
      target.kind = RecoveryTarget::Kind::kTime;
      target.time = TimeOf(recovery);
      break;
    case Target::kXid:
      target.kind = RecoveryTarget::Kind::kXid;
      // The server leaves out the epoch too.
      target.xid = static_cast<uint32_t>(recovery.xid());
      break;
    case Target::kLsn:
      target.kind = RecoveryTarget::Kind::kLsn;
      ParseLsn(recovery.lsn(), target.lsn);
      break;
    case Target::kName:
      target.kind = RecoveryTarget::Kind::kName;
      target.name = recovery.name();
      break;
  }
  return target;
}

std::string RecoveryText(const v1::Recovery& recovery) {
  switch (recovery.target_case()) {
    case Target::TARGET_NOT_SET:
      return "none";
    case Target::kImmediate:
      return "immediate";
    case Target::kLatest:
      return "latest";
    case Target::kTime:
      return absl::StrCat("time=",
                          absl::FormatTime(kTimeFormat, TimeOf(recovery), absl::UTCTimeZone()));
    case Target::kXid:
      return absl::StrCat("xid=", recovery.xid());
    case Target::kLsn:
      return absl::StrCat("lsn=", recovery.lsn());
    case Target::kName:
      return absl::StrCat("name=", recovery.name());
  }
  return "none";
}

SettingList RecoverySettings(const v1::Recovery& recovery) {
  SettingList settings;
  const std::string text = RecoveryText(recovery);
  const std::string value = text.substr(text.find('=') + 1);
  if (recovery.has_immediate()) settings.emplace_back("recovery_target", "immediate");
  if (recovery.has_time()) settings.emplace_back("recovery_target_time", value);
  if (recovery.has_xid()) settings.emplace_back("recovery_target_xid", value);
  if (recovery.has_lsn()) settings.emplace_back("recovery_target_lsn", value);
  if (recovery.has_name()) settings.emplace_back("recovery_target_name", value);
  if (recovery.has_inclusive()) {
    settings.emplace_back("recovery_target_inclusive", recovery.inclusive() ? "true" : "false");
  }
  settings.emplace_back("recovery_target_timeline", recovery.timeline());
  settings.emplace_back("recovery_target_action", recovery.action());
  settings.emplace_back(kRestoreCommandName, kRestoreCommand);
  return settings;
}

std::optional<v1::Recovery> RecoveryOf(const SettingList& settings) {
  const auto [begin, end] = FindBlock(settings);
  if (begin == end) return std::nullopt;
  v1::Recovery recovery;
  for (size_t i = begin; i < end; ++i) {
    TakeSetting(settings[i].first, settings[i].second, &recovery);
  }
  if (recovery.target_case() == Target::TARGET_NOT_SET) recovery.set_latest(true);
  return recovery;
}

SettingList WithoutRecovery(const SettingList& settings) {
  const auto [begin, end] = FindBlock(settings);
  SettingList rest(settings.begin(), settings.begin() + static_cast<ptrdiff_t>(begin));
  rest.insert(rest.end(), settings.begin() + static_cast<ptrdiff_t>(end), settings.end());
  return rest;
}

}  // namespace pbkfs
