// The messages between the keeper and its worker (PROTOCOL.md), over a pair of SOCK_SEQPACKET
// sockets. The worker asks, the keeper answers; one message is one packet with its descriptors.
#ifndef PBKFS_SERVICE_KEEPER_PROTOCOL_H_
#define PBKFS_SERVICE_KEEPER_PROTOCOL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fs/base/unique_fd.h"

namespace pbkfs {

// Grows when the meaning of a message changes. Keeper and worker refuse each other otherwise.
inline constexpr uint32_t kKeeperProtocolVersion = 3;

enum class KeeperCall : uint32_t {
  kHello = 1,      // First message of a worker.
  kHeld = 2,       // The mount with the number `number`, or ENOENT after the last one.
  kMount = 3,      // Make a mount; it is undone if the worker dies before kEstablish.
  kEstablish = 4,  // From now on the mount outlives the worker.
  kUnmount = 5,
  kForget = 6,         // Give back what is held for a mount: nothing is left to do.
  kEndConnection = 7,  // Users of the mount get errors from now on; `text` tells why.
  kReady = 8,          // The worker serves.
  kResumed = 10,       // The mounts go on; the API comes next.
  kUpgrade = 9,        // Look at the program on the disk, and go over to it after this is answered.
  kLastUpgrade = 11,   // What became of the last upgrade that was asked for, in `text`.
  kServing = 12,  // `number` 1: the mounts of the configuration are there; `text` says what is.
};

enum class UnmountMode : uint64_t {
  kPlain = 0,     // EBUSY while files are open.
  kDetached = 1,  // Out of the tree, and the connection ends.
};

// Of a mount that is held; bits of KeeperMessage::flags.
enum HeldFlags : uint32_t {
  kHeldReadOnly = 1,
  kHeldNoResend = 2,   // Its kernel can't send requests again: it ends with its worker.
  kHeldUnmounted = 4,  // The kernel's side is gone; the worker has to finish.
  kHeldFailed = 8,     // Its connection was ended; `text` tells why.
  // Of an answer: it is being unmounted for a worker that died. Whoever asks for the same gets the
  // end of that.
  kHeldUnmounting = 16,
};

struct KeeperMessage {
  KeeperCall call{};
  uint32_t tag = 0;   // The worker's choice; the answer has the same.
  int32_t error = 0;  // Of an answer: 0 or an errno.
  uint32_t flags = 0;
  uint64_t number = 0;
  std::string id;      // Of a mount.
  std::string target;  // Its mount point.
  std::string text;
  std::vector<UniqueFd> descriptors;
};

// Messages are no longer than this: a target of PATH_MAX, an id, a reason.
inline constexpr size_t kMaxKeeperMessageBytes = 16 << 10;
inline constexpr size_t kMaxKeeperDescriptors = 64;

absl::Status SendMessage(int socket, const KeeperMessage& message);
// CANCELLED when the other side has hung up; UNAVAILABLE when nothing is there (of a socket that
// does not block).
absl::StatusOr<KeeperMessage> ReceiveMessage(int socket);

// The bytes of a message without its descriptors, for tests.
std::string EncodeMessage(const KeeperMessage& message);
absl::StatusOr<KeeperMessage> DecodeMessage(absl::Span<const char> bytes);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_KEEPER_PROTOCOL_H_
