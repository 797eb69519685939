// Whose each local connection is. gRPC of this version tells a handler nothing of the process at
// the other end of a unix socket but a text of its own, "fd:" and the number of the descriptor that
// the connection was handed over as. The descriptor stays open as long as a call of the connection
// exists, even when the client is gone, so that the number means one connection for every handler
// that asks. Safe from any thread.
#ifndef PBKFS_SERVICE_PEER_TABLE_H_
#define PBKFS_SERVICE_PEER_TABLE_H_

#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/base/mutex.h"
#include "service/access_policy.h"

namespace pbkfs {

// The process that connected the unix socket `fd`, with its user and groups at that time.
absl::StatusOr<Peer> PeerOfSocket(int fd);

class PeerTable {
 public:
  // Before gRPC gets the descriptor. What was known by this number is over.
  void Set(int fd, Peer peer);
  // `text` is what gRPC says of the peer. kUnknown where it is no descriptor of the table.
  Peer Find(absl::string_view text) const;

 private:
  mutable Mutex mutex_;
  std::map<int, Peer> peers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_PEER_TABLE_H_
