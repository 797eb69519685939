// Accepts connections and hands them to the API's servers, each with the identity of the process
// that made it. The listening sockets are the keeper's: they outlive this process, and whoever
// connects while none serves waits for the next one.
//
// It keeps a descriptor of its own of each connection, by which it learns that the connection is
// over: limits count what is open.
#ifndef PBKFS_SERVICE_ACCEPTOR_H_
#define PBKFS_SERVICE_ACCEPTOR_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fs/base/unique_fd.h"
#include "service/api_server.h"
#include "service/call_gate.h"
#include "service/config_holder.h"
#include "service/peer_table.h"

namespace pbkfs {

class Acceptor {
 public:
  // `listeners` are those of the configuration, in its order. Accepts until it is destroyed, which
  // must be before the others are.
  static absl::StatusOr<std::unique_ptr<Acceptor>> Start(std::vector<UniqueFd> listeners,
                                                         const ConfigHolder& config,
                                                         const CallGate& gate, PeerTable& peers,
                                                         ApiServer& server);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

 private:
  struct Listener {
    UniqueFd socket;
    int index = 0;
    bool local = false;
  };
  enum class Share : uint8_t { kAdministrator, kCaller, kRefused, kTls };
  struct Connection {
    UniqueFd socket;
    Share share = Share::kCaller;
    uid_t uid = 0;  // Of kCaller.
  };

  Acceptor(const ConfigHolder& config, const CallGate& gate, PeerTable& peers, ApiServer& server)
      : config_(config), gate_(gate), peers_(peers), server_(server) {}
  absl::Status SetUp(std::vector<UniqueFd> listeners);
  absl::Status Watch(int fd, uint32_t events);
  void Run();
  void Accept(const Listener& listener);
  void AcceptLocal(UniqueFd socket);
  // Whether there is room for one more connection of this kind; says so in the log where not.
  bool HasRoom(Share share, uid_t uid);
  // False where the connection can't be watched.
  bool Track(const UniqueFd& socket, Share share, uid_t uid);
  void Forget(int fd);

  const ConfigHolder& config_;
  const CallGate& gate_;
  PeerTable& peers_;
  ApiServer& server_;
  UniqueFd stop_;   // An eventfd.
  UniqueFd epoll_;  // Everything here.
  std::map<int, Listener> listeners_;
  // By our descriptor. Used by the thread alone, like what follows.
  std::map<int, Connection> connections_;
  std::map<Share, uint32_t> by_share_;
  std::map<uid_t, uint32_t> by_uid_;
  absl::Time next_complaint_;
  std::thread thread_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_ACCEPTOR_H_
