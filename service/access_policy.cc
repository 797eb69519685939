#include "service/access_policy.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"

namespace pbkfs {
namespace {

absl::Status NotAllowed(absl::string_view message) {
  return ReasonError(absl::StatusCode::kPermissionDenied, reason::kCallerNotAllowed, message);
}

bool IsInGroup(const Peer& peer, gid_t gid) {
  return peer.gid == gid ||
         std::find(peer.groups.begin(), peer.groups.end(), gid) != peer.groups.end();
}

bool Matches(const v1::Caller& entry, const Peer& peer) {
  const bool local = peer.kind == Peer::Kind::kLocal;
  switch (entry.who_case()) {
    case v1::Caller::kUid:
      return local && entry.uid() == peer.uid;
    case v1::Caller::kGid:
      return local && IsInGroup(peer, entry.gid());
    case v1::Caller::kCertificate: {
      if (peer.kind != Peer::Kind::kCertificate || entry.certificate().empty()) return false;
      const std::vector<std::string>& names = peer.dns_names;
      return entry.certificate() == peer.common_name ||
             std::find(names.begin(), names.end(), entry.certificate()) != names.end();
    }
    case v1::Caller::WHO_NOT_SET:
      break;
  }
  return false;
}

// How the configuration would name `peer`.
std::string EntryFor(const Peer& peer) {
  if (peer.kind == Peer::Kind::kLocal) return absl::StrCat("uid: ", peer.uid);
  const bool unnamed = peer.common_name.empty() && !peer.dns_names.empty();
  return absl::StrCat("certificate: \"", unnamed ? peer.dns_names[0] : peer.common_name, "\"");
}

std::string OwnerText(const v1::Owner& owner) {
  return absl::StrCat("uid ", owner.uid(), ", gid ", owner.gid());
}

}  // namespace

std::string PeerText(const Peer& peer) {
  switch (peer.kind) {
    case Peer::Kind::kLocal:
      return absl::StrCat("uid ", peer.uid, " (pid ", peer.pid, ")");
    case Peer::Kind::kCertificate: {
      const bool unnamed = peer.common_name.empty() && !peer.dns_names.empty();
      return absl::StrCat("certificate '", unnamed ? peer.dns_names[0] : peer.common_name, "' (",
                          peer.address, ")");
    }
    case Peer::Kind::kUnknown:
      break;
  }
  return "unknown";
}

absl::StatusOr<Caller> Caller::Admit(const v1::DaemonConfig& config, const Peer& peer,
                                     uid_t own_uid) {
  if (peer.kind == Peer::Kind::kUnknown) {
    return NotAllowed("nothing tells who is calling; connect again");
  }
  Caller caller;
  caller.peer_ = peer;
  caller.own_uid_ = own_uid;
  caller.administrator_ = peer.kind == Peer::Kind::kLocal && (peer.uid == 0 || peer.uid == own_uid);
  bool named = config.callers().empty() || caller.administrator_;
  for (const v1::Caller& entry : config.callers()) {
    if (!Matches(entry, peer)) continue;
    named = true;
    caller.administrator_ = caller.administrator_ || entry.administrator();
    if (entry.has_owner() && peer.kind == Peer::Kind::kCertificate) {
      caller.owners_.push_back(entry.owner());
    }
  }
  if (!named) {
    return NotAllowed(absl::StrCat(PeerText(peer), " is not among the callers of this daemon; add ",
                                   "callers { ", EntryFor(peer),
                                   " } to its configuration file, and reload it"));
  }
  return caller;
}

Caller Caller::Daemon() {
  Caller caller;
  caller.administrator_ = true;
  return caller;
}

absl::Status Caller::Refused(absl::string_view message) const {
  return NotAllowed(absl::StrCat(
      PeerText(peer_), ": ", message, "; or let an administrator do it: root, or callers { ",
      EntryFor(peer_), " administrator: true } in the configuration file"));
}

bool Caller::Owns(uid_t uid) const {
  if (administrator_) return true;
  if (peer_.kind == Peer::Kind::kLocal) return uid == peer_.uid;
  return std::any_of(owners_.begin(), owners_.end(),
                     [uid](const v1::Owner& owner) { return owner.uid() == uid; });
}

absl::Status Caller::CheckOwns(uid_t uid, absl::string_view what) const {
  if (Owns(uid)) return absl::OkStatus();
  return Refused(absl::StrCat(what, " belongs to uid ", uid, "; choose one of your own"));
}

absl::Status Caller::CheckOwner(const v1::Owner& owner, bool by_default) const {
  if (administrator_) return absl::OkStatus();
  bool allowed = false;
  std::string choice;
  if (peer_.kind == Peer::Kind::kLocal) {
    allowed = owner.uid() == peer_.uid && IsInGroup(peer_, owner.gid());
    choice = absl::StrCat("set owner to uid ", peer_.uid, " and one of its groups, such as gid ",
                          peer_.gid);
  } else {
    for (const v1::Owner& own : owners_) {
      allowed = allowed || (own.uid() == owner.uid() && own.gid() == owner.gid());
    }
    choice = owners_.empty()
                 ? absl::StrCat("this certificate has no owner: give it one with callers { ",
                                EntryFor(peer_), " owner { uid: … gid: … } }")
                 : absl::StrCat("set owner to ", OwnerText(owners_[0]));
  }
  if (allowed) return absl::OkStatus();
  const absl::string_view why =
      by_default ? "owner is not set, and the catalog's would be taken: " : "owner is ";
  return WithField(Refused(absl::StrCat(why, OwnerText(owner), "; ", choice)), "owner");
}

absl::Status Caller::CheckDirectory(absl::string_view field, absl::string_view path, uid_t uid,
                                    bool may_be_own) const {
  if (administrator_ || uid == 0 || uid == own_uid_ || (may_be_own && Owns(uid))) {
    return absl::OkStatus();
  }
  const absl::string_view next =
      may_be_own ? "; name a directory of your own, or one of root's"
                 : ", and only the daemon makes diffs; name a directory that does not exist";
  return WithField(
      Refused(absl::StrCat(field, " leads into ", path, ", which belongs to uid ", uid, next)),
      field);
}

absl::Status Caller::CheckAdministrator(absl::string_view what) const {
  if (administrator_) return absl::OkStatus();
  return Refused(absl::StrCat(what, " is for administrators"));
}

}  // namespace pbkfs
