#include "service/metrics/mount_state.h"

namespace pbkfs {

absl::string_view StateName(v1::MountState state) {
  switch (state) {
    case v1::MOUNT_STATE_CREATING:
      return "creating";
    case v1::MOUNT_STATE_ACTIVE:
      return "active";
    case v1::MOUNT_STATE_DRAINING:
      return "draining";
    default:
      return "failed";
  }
}

}  // namespace pbkfs
