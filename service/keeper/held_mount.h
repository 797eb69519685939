// What the keeper holds of one mount.
#ifndef PBKFS_SERVICE_KEEPER_HELD_MOUNT_H_
#define PBKFS_SERVICE_KEEPER_HELD_MOUNT_H_

#include <array>
#include <cstdint>
#include <string>

#include "fs/base/unique_fd.h"

namespace pbkfs {

struct HeldMount {
  // The order of the descriptors in messages; the last one is missing once the kernel's side is
  // gone.
  enum Descriptor : uint8_t { kMemory, kDirectory, kWitness, kLock, kFuse, kDescriptors };

  std::string id;
  std::string target;
  uint32_t flags = 0;  // HeldFlags.
  bool established = false;
  std::string reason;  // Why it failed.
  std::array<UniqueFd, kDescriptors> descriptors;

  bool Has(uint32_t flag) const { return (flags & flag) != 0; }
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_KEEPER_HELD_MOUNT_H_
