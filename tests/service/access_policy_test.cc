#include "service/access_policy.h"

#include <string>
#include <vector>

#include "fs/base/status.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

namespace pbkfs {
namespace {

using testing::HasSubstr;

constexpr uid_t kDaemon = 42;

v1::DaemonConfig Config(const std::string& text) {
  v1::DaemonConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return config;
}

Peer Local(uid_t uid, gid_t gid = 100, std::vector<gid_t> groups = {}) {
  Peer peer;
  peer.kind = Peer::Kind::kLocal;
  peer.uid = uid;
  peer.gid = gid;
  peer.pid = 17;
  peer.groups = std::move(groups);
  return peer;
}

Peer Remote(const std::string& name, std::vector<std::string> dns = {}) {
  Peer peer;
  peer.kind = Peer::Kind::kCertificate;
  peer.common_name = name;
  peer.dns_names = std::move(dns);
  peer.address = "ipv4:192.0.2.1:4711";
  return peer;
}

v1::Owner Owner(uint32_t uid, uint32_t gid) {
  v1::Owner owner;
  owner.set_uid(uid);
  owner.set_gid(gid);
  return owner;
}

Caller Admitted(const std::string& config, const Peer& peer) {
  const absl::StatusOr<Caller> caller = Caller::Admit(Config(config), peer, kDaemon);
  EXPECT_TRUE(caller.ok()) << caller.status();
  return caller.ok() ? *caller : Caller::Daemon();
}

void ExpectRefused(const absl::Status& status, const std::string& text) {
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(ReasonOf(status), "CALLER_NOT_ALLOWED");
  EXPECT_THAT(std::string(status.message()), HasSubstr(text));
}

enum class Verdict : uint8_t { kRefused, kCaller, kAdministrator };

struct Admission {
  const char* what;
  const char* config;
  Peer peer;
  Verdict verdict;
};

TEST(AccessPolicy, WhoIsLetIn) {
  const Admission table[] = {
      {"root", "callers { uid: 5 }", Local(0), Verdict::kAdministrator},
      {"the daemon's user", "callers { uid: 5 }", Local(kDaemon), Verdict::kAdministrator},
      {"nobody is named", "", Local(1000), Verdict::kCaller},
      {"no certificate is named", "", Remote("app"), Verdict::kCaller},
      {"named by uid", "callers { uid: 1000 }", Local(1000), Verdict::kCaller},
      {"another uid", "callers { uid: 1000 }", Local(1001), Verdict::kRefused},
      {"named by group", "callers { gid: 7 }", Local(1, 7), Verdict::kCaller},
      {"by a further group", "callers { gid: 7 }", Local(1, 2, {3, 7}), Verdict::kCaller},
      {"another group", "callers { gid: 7 }", Local(7, 2, {3}), Verdict::kRefused},
      {"the second entry", "callers { uid: 1 } callers { uid: 2 }", Local(2), Verdict::kCaller},
      {"any entry makes an administrator",
       "callers { uid: 2 } callers { gid: 7 administrator: true }", Local(2, 7),
       Verdict::kAdministrator},
      {"an administrator elsewhere", "callers { uid: 2 } callers { gid: 7 administrator: true }",
       Local(2, 8), Verdict::kCaller},
      {"common name", "callers { certificate: 'app' }", Remote("app"), Verdict::kCaller},
      {"DNS name", "callers { certificate: 'app' }", Remote("", {"x", "app"}), Verdict::kCaller},
      {"part of a name", "callers { certificate: 'app' }", Remote("app2", {"app.x"}),
       Verdict::kRefused},
      {"a name with a NUL", "callers { certificate: 'app' }", Remote(std::string("app\0x", 5)),
       Verdict::kRefused},
      {"no name at all", "callers { certificate: 'app' }", Remote(""), Verdict::kRefused},
      {"a certificate named root", "callers { uid: 0 }", Remote("0"), Verdict::kRefused},
      {"a certificate of uid 0", "callers { certificate: 'x' }", Remote("root"), Verdict::kRefused},
      {"a user named as a certificate", "callers { certificate: '1000' }", Local(1000),
       Verdict::kRefused},
      {"an administrator's certificate", "callers { certificate: 'a' administrator: true }",
       Remote("a"), Verdict::kAdministrator},
      {"an entry that says nobody", "callers { administrator: true }", Local(1), Verdict::kRefused},
      {"nobody knows who", "", Peer(), Verdict::kRefused},
  };
  for (const Admission& row : table) {
    SCOPED_TRACE(row.what);
    const absl::StatusOr<Caller> caller = Caller::Admit(Config(row.config), row.peer, kDaemon);
    ASSERT_EQ(caller.ok(), row.verdict != Verdict::kRefused) << caller.status();
    if (!caller.ok()) {
      ExpectRefused(caller.status(),
                    row.peer.kind == Peer::Kind::kUnknown ? "connect" : "callers {");
      continue;
    }
    EXPECT_EQ(caller->administrator(), row.verdict == Verdict::kAdministrator);
    EXPECT_EQ(caller->CheckAdministrator("Reload").ok(), caller->administrator());
  }
}

struct OwnerRule {
  const char* what;
  const char* config;
  Peer peer;
  v1::Owner owner;
  bool allowed;
};

TEST(AccessPolicy, WhomMountsMayBelongTo) {
  constexpr char kOwned[] = "callers { certificate: 'app' owner { uid: 26 gid: 27 } }";
  const OwnerRule table[] = {
      {"root gives to anybody", "", Local(0), Owner(1, 2), true},
      {"himself", "", Local(1000, 100), Owner(1000, 100), true},
      {"himself with a further group", "", Local(1000, 100, {7}), Owner(1000, 7), true},
      {"himself with a strange group", "", Local(1000, 100), Owner(1000, 0), false},
      {"root", "", Local(1000, 100), Owner(0, 0), false},
      {"another", "", Local(1000, 100), Owner(1001, 100), false},
      {"an administrator by file", "callers { uid: 1000 administrator: true }", Local(1000),
       Owner(0, 0), true},
      {"the owner of the certificate", kOwned, Remote("app"), Owner(26, 27), true},
      {"another group", kOwned, Remote("app"), Owner(26, 0), false},
      {"another user", kOwned, Remote("app"), Owner(0, 27), false},
      {"a certificate without owner", "", Remote("app"), Owner(26, 27), false},
  };
  for (const OwnerRule& row : table) {
    SCOPED_TRACE(row.what);
    const Caller caller = Admitted(row.config, row.peer);
    for (const bool by_default : {false, true}) {
      const absl::Status status = caller.CheckOwner(row.owner, by_default);
      EXPECT_EQ(status.ok(), row.allowed) << status;
      if (row.allowed) continue;
      ExpectRefused(status, by_default ? "owner is not set" : "owner is");
      EXPECT_EQ(FieldOf(status), "owner");
    }
  }
  // The next step is one that works.
  ExpectRefused(Admitted("", Local(1000, 100)).CheckOwner(Owner(0, 0), true),
                "set owner to uid 1000");
  ExpectRefused(Admitted(kOwned, Remote("app")).CheckOwner(Owner(0, 0), true),
                "set owner to uid 26, gid 27");
  ExpectRefused(Admitted("", Remote("app")).CheckOwner(Owner(0, 0), true), "owner { uid:");
}

TEST(AccessPolicy, WhatIsHis) {
  EXPECT_TRUE(Admitted("", Local(0)).Owns(1000));
  EXPECT_TRUE(Admitted("", Local(1000)).Owns(1000));
  EXPECT_FALSE(Admitted("", Local(1000)).Owns(0));
  EXPECT_FALSE(Admitted("", Remote("app")).Owns(0));
  EXPECT_TRUE(Admitted("callers { certificate: 'app' owner { uid: 26 } }", Remote("app")).Owns(26));
  EXPECT_TRUE(Caller::Daemon().Owns(1000));
  ExpectRefused(Admitted("", Local(1000)).CheckOwns(1001, "mount 'a'"), "mount 'a' belongs to uid");
}

TEST(AccessPolicy, DirectoriesOfOthersAreNotEntered) {
  const Caller caller = Admitted("", Local(1000));
  EXPECT_TRUE(caller.CheckDirectory("target", "/d", 1000, true).ok());
  EXPECT_TRUE(caller.CheckDirectory("target", "/d", 0, true).ok());
  EXPECT_TRUE(caller.CheckDirectory("target", "/d", kDaemon, true).ok());
  ExpectRefused(caller.CheckDirectory("target", "/d", 1001, true), "belongs to uid 1001");
  ExpectRefused(caller.CheckDirectory("diff_dir", "/d", 1000, false), "only the daemon");
  EXPECT_TRUE(Admitted("", Local(0)).CheckDirectory("target", "/d", 1001, true).ok());
}

TEST(AccessPolicy, PeersAreNamedInMessages) {
  EXPECT_EQ(PeerText(Local(5)), "uid 5 (pid 17)");
  EXPECT_EQ(PeerText(Remote("app")), "certificate 'app' (ipv4:192.0.2.1:4711)");
  EXPECT_EQ(PeerText(Remote("", {"host"})), "certificate 'host' (ipv4:192.0.2.1:4711)");
}

}  // namespace
}  // namespace pbkfs
