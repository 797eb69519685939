// The recovery that a mount request asks for: its checks and defaults, and the server settings that
// stand for it in a diff (format document, section 9, servers from 12 on). Pure functions.
#ifndef PBKFS_SERVICE_RECOVERY_SETTINGS_H_
#define PBKFS_SERVICE_RECOVERY_SETTINGS_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "fs/catalog/recovery_scan.h"
#include "pbkfs/v1/mount.pb.h"
#include "service/clone_settings.h"

namespace pbkfs {

// Recovery settings are server settings since this major; before, they stood in recovery.conf.
inline constexpr int kFirstMajorWithRecoverySettings = 12;

// The file whose presence makes a server recover from an archive. It removes it when it is done.
inline constexpr char kRecoverySignal[] = "recovery.signal";

// Checks the fields and fills in the defaults (timeline, action, inclusive). INVALID_ARGUMENT
// (INVALID_FIELD).
absl::StatusOr<v1::Recovery> NormalizeRecovery(const v1::Recovery& recovery);

// What an ARCHIVE backup gets that is mounted without a word about recovery: it can't start without
// archived WAL.
v1::Recovery ArchiveRecovery();

// From here on `recovery` is normalized.
RecoveryTarget TargetOf(const v1::Recovery& recovery);
// "name=rp_1", "time=2026-11-22 06:07:15+00": for messages.
std::string RecoveryText(const v1::Recovery& recovery);

// The settings, in the order in which pg_probackup writes them; the command that fetches WAL, which
// is a plain copy from the mount itself, is the last one.
SettingList RecoverySettings(const v1::Recovery& recovery);
// The recovery whose settings are among those of a diff; nothing where there is none.
std::optional<v1::Recovery> RecoveryOf(const SettingList& settings);
// `settings` without them.
SettingList WithoutRecovery(const SettingList& settings);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_RECOVERY_SETTINGS_H_
