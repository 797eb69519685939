#include "service/peer_table.h"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "fs/base/status.h"

namespace pbkfs {

absl::StatusOr<Peer> PeerOfSocket(int fd) {
  ucred credentials = {};
  socklen_t size = sizeof(credentials);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return ErrnoError(errno, "SO_PEERCRED");
  }
  Peer peer;
  peer.kind = Peer::Kind::kLocal;
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  peer.pid = credentials.pid;
  // The kernel says how much room it needs.
  peer.groups.resize(16);
  size = static_cast<socklen_t>(peer.groups.size() * sizeof(gid_t));
  int result = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &size);
  if (result != 0 && errno == ERANGE) {
    peer.groups.resize(size / sizeof(gid_t));
    result = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &size);
  }
  if (result != 0) return ErrnoError(errno, "SO_PEERGROUPS");
  peer.groups.resize(size / sizeof(gid_t));
  return peer;
}

void PeerTable::Set(int fd, Peer peer) {
  MutexLock lock(&mutex_);
  peers_[fd] = std::move(peer);
}

Peer PeerTable::Find(absl::string_view text) const {
  int fd = -1;
  if (!absl::ConsumePrefix(&text, "fd:") || !absl::SimpleAtoi(text, &fd)) return Peer();
  MutexLock lock(&mutex_);
  const auto found = peers_.find(fd);
  return found == peers_.end() ? Peer() : found->second;
}

}  // namespace pbkfs
