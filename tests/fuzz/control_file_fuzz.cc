// backup.control and pg_probackup.conf: any text gives settings or an error.
#include <cstddef>
#include <cstdint>

#include "fs/catalog/backup_control.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<pbkfs::BackupControl> control = pbkfs::ParseBackupControl(text);
  if (control.ok()) {
    control->MergedInto();
    control->ServerMajor();
    pbkfs::FormatBackupId(control->start_time);
  }
  pbkfs::ParseInstanceConfig(text).status().IgnoreError();
  return 0;
}
