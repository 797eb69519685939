#include "service/acceptor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "fs/base/status.h"
#include "grpcpp/server_posix.h"
#include "spdlog/spdlog.h"

namespace pbkfs {

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Start(std::vector<UniqueFd> listeners,
                                                          grpc::Server& server) {
  UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  if (!stop.valid()) return ErrnoError(errno, "eventfd");
  std::unique_ptr<Acceptor> acceptor(new Acceptor(std::move(listeners), std::move(stop), server));
  acceptor->thread_ = std::thread([raw = acceptor.get()] { raw->Run(); });
  return acceptor;
}

Acceptor::~Acceptor() {
  const uint64_t one = 1;
  if (write(stop_.get(), &one, sizeof(one)) != sizeof(one)) {
    spdlog::error("the acceptor can't be told to stop");
  }
  thread_.join();
}

void Acceptor::Run() {
  std::vector<pollfd> descriptors = {{stop_.get(), POLLIN, 0}};
  for (const UniqueFd& listener : listeners_) descriptors.push_back({listener.get(), POLLIN, 0});
  while (true) {
    if (poll(descriptors.data(), descriptors.size(), -1) < 0 && errno != EINTR) return;
    if (descriptors[0].revents != 0) return;
    for (size_t i = 1; i < descriptors.size(); ++i) {
      if (descriptors[i].revents == 0) continue;
      const int fd = accept4(descriptors[i].fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd >= 0) {
        grpc::AddInsecureChannelFromFd(&server_, fd);
      } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
        // The connection stays in the queue, and poll would return at once.
        spdlog::error("no connection is accepted: {}", ErrnoError(errno, "accept").ToString());
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
      }
    }
  }
}

}  // namespace pbkfs
