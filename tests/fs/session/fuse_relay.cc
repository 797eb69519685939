#include "tests/fs/session/fuse_relay.h"

#include <linux/fuse.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "fs/base/mutex.h"
#include "fs/base/status.h"
#include "fs/session/fuse_operations.h"

namespace pbkfs::testsupport {
namespace {

constexpr size_t kMessageBytes = (size_t{1} << 20) + 4096;
constexpr int kSocketBytes = 4 << 20;

class Relay {
 public:
  Relay(UniqueFd fuse, UniqueFd session, RelayOrders* orders)
      : fuse_(std::move(fuse)), session_(std::move(session)), orders_(*orders) {}

  void PassRequests() {
    std::vector<uint8_t> message(kMessageBytes);
    while (true) {
      const ssize_t bytes = read(fuse_.get(), message.data(), message.size());
      if (bytes < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) continue;
      if (bytes <= 0) break;
      fuse_in_header header;
      memcpy(&header, message.data(), sizeof(header));
      orders_.last_unique = header.unique & ~kResendBit;
      DieIf(RelayOrders::kRead, header.opcode);
      {
        MutexLock lock(&mutex_);
        opcodes_[header.unique] = header.opcode;
      }
      if (send(session_.get(), message.data(), static_cast<size_t>(bytes), 0) != bytes) break;
    }
    shutdown(session_.get(), SHUT_RDWR);  // The end of the connection.
  }

  void PassAnswers() {
    std::vector<uint8_t> message(kMessageBytes);
    ssize_t bytes;
    while ((bytes = recv(session_.get(), message.data(), message.size(), 0)) > 0) {
      fuse_out_header header;
      memcpy(&header, message.data(), sizeof(header));
      if (header.unique != 0) DieIf(RelayOrders::kExecuted, TakeOpcode(header.unique));
      // What the kernel no longer wants is not an error of the relay.
      if (write(fuse_.get(), message.data(), static_cast<size_t>(bytes)) < 0) continue;
    }
  }

 private:
  uint32_t TakeOpcode(uint64_t unique) {
    MutexLock lock(&mutex_);
    const auto found = opcodes_.find(unique);
    if (found == opcodes_.end()) return 0;
    const uint32_t opcode = found->second;
    opcodes_.erase(found);
    return opcode;
  }

  void DieIf(RelayOrders::Moment moment, uint32_t opcode) {
    if (orders_.deaths == 0 || orders_.moment != moment || orders_.opcode != opcode) return;
    --orders_.deaths;
    raise(SIGKILL);
  }

  const UniqueFd fuse_;
  const UniqueFd session_;
  RelayOrders& orders_;
  Mutex mutex_;
  std::map<uint64_t, uint32_t> opcodes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<UniqueFd> StartFuseRelay(UniqueFd fuse, RelayOrders* orders) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoError(errno, "the relay's sockets");
  }
  for (const int end : ends) {
    setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &kSocketBytes, sizeof(kSocketBytes));
  }
  auto relay = std::make_shared<Relay>(std::move(fuse), UniqueFd(ends[0]), orders);
  std::thread([relay] { relay->PassRequests(); }).detach();
  std::thread([relay] { relay->PassAnswers(); }).detach();
  return UniqueFd(ends[1]);
}

}  // namespace pbkfs::testsupport
