#include "service/acceptor.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "fs/base/status.h"
#include "service/limits.h"
#include "service/logging.h"
#include "spdlog/spdlog.h"

namespace pbkfs {

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Start(std::vector<UniqueFd> listeners,
                                                          const ConfigHolder& config,
                                                          const CallGate& gate, PeerTable& peers,
                                                          ApiServer& server) {
  std::unique_ptr<Acceptor> acceptor(new Acceptor(config, gate, peers, server));
  PBKFS_RETURN_IF_ERROR(acceptor->SetUp(std::move(listeners)));
  acceptor->thread_ = std::thread([raw = acceptor.get()] { raw->Run(); });
  return acceptor;
}

absl::Status Acceptor::SetUp(std::vector<UniqueFd> listeners) {
  stop_.Reset(eventfd(0, EFD_CLOEXEC));
  if (!stop_.valid()) return ErrnoError(errno, "eventfd");
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return ErrnoError(errno, "epoll_create1");
  PBKFS_RETURN_IF_ERROR(Watch(stop_.get(), EPOLLIN));
  for (size_t i = 0; i < listeners.size(); ++i) {
    const int fd = listeners[i].get();
    int domain = 0;
    socklen_t size = sizeof(domain);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) {
      return ErrnoError(errno, "a listening socket");
    }
    PBKFS_RETURN_IF_ERROR(Watch(fd, EPOLLIN));
    listeners_[fd] = {std::move(listeners[i]), static_cast<int>(i), domain == AF_UNIX};
  }
  return absl::OkStatus();
}

Acceptor::~Acceptor() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  if (write(stop_.get(), &one, sizeof(one)) != sizeof(one)) {
    spdlog::error("the acceptor can't be told to stop");
  }
  thread_.join();
}

absl::Status Acceptor::Watch(int fd, uint32_t events) {
  epoll_event event = {};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return absl::OkStatus();
  return ErrnoError(errno, "epoll_ctl");
}

void Acceptor::Run() {
  epoll_event events[64];
  while (true) {
    const int count = epoll_wait(epoll_.get(), events, 64, -1);
    if (count < 0 && errno != EINTR) return;
    // What is over makes room first.
    for (int i = 0; i < count; ++i) {
      if (events[i].data.fd == stop_.get()) return;
      Forget(events[i].data.fd);
    }
    for (int i = 0; i < count; ++i) {
      const auto listener = listeners_.find(events[i].data.fd);
      if (listener != listeners_.end()) Accept(listener->second);
    }
  }
}

void Acceptor::Accept(const Listener& listener) {
  UniqueFd socket(accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid()) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
      // The connection stays in the queue, and epoll_wait would return at once.
      spdlog::error("no connection is accepted: {}", ErrnoError(errno, "accept").ToString());
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return;
  }
  if (listener.local) return AcceptLocal(std::move(socket));
  const int on = 1;
  setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (!HasRoom(Share::kTls, 0) || !Track(socket, Share::kTls, 0)) return;
  server_.AddTls(listener.index, std::move(socket));
}

void Acceptor::AcceptLocal(UniqueFd socket) {
  absl::StatusOr<Peer> peer = PeerOfSocket(socket.get());
  if (!peer.ok()) {
    spdlog::error("a connection is closed: {}", peer.status().ToString());
    return;
  }
  const absl::StatusOr<Caller> caller = gate_.Admit(*peer);
  const Share share = !caller.ok()              ? Share::kRefused
                      : caller->administrator() ? Share::kAdministrator
                                                : Share::kCaller;
  if (!HasRoom(share, peer->uid) || !Track(socket, share, peer->uid)) return;
  if (!caller.ok()) {
    LogEvent(spdlog::level::warn, "refused")
        .Field("uid", uint64_t{peer->uid})
        .Field("pid", static_cast<uint64_t>(peer->pid))
        .Field("message", caller.status().message());
  }
  peers_.Set(socket.get(), *std::move(peer));
  if (caller.ok()) {
    server_.AddLocal(std::move(socket));
  } else {
    server_.AddRefused(std::move(socket));
  }
}

bool Acceptor::HasRoom(Share share, uid_t uid) {
  const uint32_t all = config_.Get()->limits().max_connections();
  const uint32_t callers = LimitFor(/*administrator=*/false, all);
  const uint32_t open =
      by_share_[Share::kAdministrator] + by_share_[Share::kCaller] + by_share_[Share::kTls];
  bool room = true;
  switch (share) {
    case Share::kAdministrator:
      room = open < all;
      break;
    case Share::kCaller: {
      // One user does not lock out the others.
      const auto found = by_uid_.find(uid);
      room = open < callers && (found == by_uid_.end() || found->second < (callers + 1) / 2);
      break;
    }
    case Share::kTls:
      room = open < callers && by_share_[share] < (callers + 1) / 2;
      break;
    case Share::kRefused:
      room = by_share_[share] < kMaxRefusedConnections;
      break;
  }
  if (!room && absl::Now() >= next_complaint_) {
    next_complaint_ = absl::Now() + kConnectionComplaintPeriod;
    spdlog::warn(
        "a connection {} is closed: there are {} already; limits {{ max_connections }} of the "
        "configuration file is {}",
        share == Share::kTls ? std::string("by TCP") : "of uid " + std::to_string(uid), open, all);
  }
  return room;
}

bool Acceptor::Track(const UniqueFd& socket, Share share, uid_t uid) {
  UniqueFd own(fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
  // What ends a connection is always told.
  if (!own.valid() || !Watch(own.get(), 0).ok()) return false;
  const int fd = own.get();
  connections_[fd] = {std::move(own), share, uid};
  ++by_share_[share];
  if (share == Share::kCaller) ++by_uid_[uid];
  return true;
}

void Acceptor::Forget(int fd) {
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return;
  const Connection& connection = found->second;
  --by_share_[connection.share];
  if (connection.share == Share::kCaller && --by_uid_[connection.uid] == 0) {
    by_uid_.erase(connection.uid);
  }
  // While others hold the socket, closing a descriptor takes nothing out of the set.
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  connections_.erase(found);
}

}  // namespace pbkfs
