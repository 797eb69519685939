// Who may call, and what he may do. Pure: a peer and the configuration in, a Caller out; rules are
// questions to the Caller. Knows nothing of sockets and gRPC.
//
// Root and the daemon's own user are administrators and may do everything. Others are callers if
// the configuration names them, or names nobody. A caller who is no administrator makes mounts for
// himself only, sees and ends only what is his, and changes nothing of the daemon.
#ifndef PBKFS_SERVICE_ACCESS_POLICY_H_
#define PBKFS_SERVICE_ACCESS_POLICY_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pbkfs/v1/config.pb.h"

namespace pbkfs {

// The other end of a connection: said by the kernel or by a certificate, never by the call.
struct Peer {
  enum class Kind : uint8_t { kUnknown, kLocal, kCertificate };
  Kind kind = Kind::kUnknown;
  // kLocal: the process that connected, when it did.
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;
  std::vector<gid_t> groups;  // Supplementary ones.
  // kCertificate
  std::string common_name;
  std::vector<std::string> dns_names;
  std::string address;
};
// For logs and messages: "uid 1000 (pid 17)", "certificate 'app' (ipv4:192.0.2.1:4711)".
std::string PeerText(const Peer& peer);

class Caller {
 public:
  // `peer` as the configuration sees it; `own_uid` is the daemon's user. CALLER_NOT_ALLOWED, with
  // what to change.
  static absl::StatusOr<Caller> Admit(const v1::DaemonConfig& config, const Peer& peer,
                                      uid_t own_uid);
  // The daemon itself: mounts of its configuration.
  static Caller Daemon();

  const Peer& peer() const { return peer_; }
  bool administrator() const { return administrator_; }

  // Whether a mount or a diff of this user is his.
  bool Owns(uid_t uid) const;
  // CALLER_NOT_ALLOWED unless it is; `what` as "mount 'a'".
  absl::Status CheckOwns(uid_t uid, absl::string_view what) const;
  // CALLER_NOT_ALLOWED unless a mount may belong to `owner`. `by_default`: nobody asked for this
  // owner, it is that of the catalog.
  absl::Status CheckOwner(const v1::Owner& owner, bool by_default) const;
  // CALLER_NOT_ALLOWED where `path`, a directory of `uid` that the request leads into, is another
  // user's. Root's are everybody's: the allowed roots say which; his own only if it `may_be_own`.
  absl::Status CheckDirectory(absl::string_view field, absl::string_view path, uid_t uid,
                              bool may_be_own) const;
  // CALLER_NOT_ALLOWED unless he is an administrator; `what` as "SetLogLevel".
  absl::Status CheckAdministrator(absl::string_view what) const;

 private:
  Caller() = default;
  absl::Status Refused(absl::string_view message) const;

  Peer peer_;
  bool administrator_ = false;
  uid_t own_uid_ = 0;
  std::vector<v1::Owner> owners_;  // Of a certificate: what its mounts may belong to.
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_ACCESS_POLICY_H_
