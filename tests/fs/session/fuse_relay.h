// Stands between the kernel and the FuseSession of a worker process and passes every message on as
// it is, so that a test says at which message the worker dies.
#ifndef PBKFS_TESTS_FS_SESSION_FUSE_RELAY_H_
#define PBKFS_TESTS_FS_SESSION_FUSE_RELAY_H_

#include <atomic>
#include <cstdint>

#include "absl/status/statusor.h"
#include "fs/base/unique_fd.h"

namespace pbkfs::testsupport {

// In memory that the test and its workers share.
struct RelayOrders {
  enum Moment : uint32_t {
    kRead,      // The request was taken from the kernel, and nothing else.
    kExecuted,  // The session has answered, and the kernel has not heard of it.
  };
  // The worker dies at the next `deaths` requests with this operation.
  std::atomic<int> deaths{0};
  std::atomic<uint32_t> opcode{0};
  std::atomic<Moment> moment{kRead};

  // The number of the last request.
  std::atomic<uint64_t> last_unique{0};
};

// Relays in threads that live as long as the process. Returns the session's descriptor.
absl::StatusOr<UniqueFd> StartFuseRelay(UniqueFd fuse, RelayOrders* orders);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_FS_SESSION_FUSE_RELAY_H_
