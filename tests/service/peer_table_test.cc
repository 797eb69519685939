#include "service/peer_table.h"

#include <grp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "fs/base/unique_fd.h"
#include "gtest/gtest.h"
#include "tests/support/must_run.h"

namespace pbkfs {
namespace {

TEST(PeerTable, TheKernelSaysWhoConnected) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const UniqueFd here(ends[0]);
  const UniqueFd there(ends[1]);
  const absl::StatusOr<Peer> peer = PeerOfSocket(here.get());
  ASSERT_TRUE(peer.ok()) << peer.status();
  EXPECT_EQ(peer->uid, geteuid());
  EXPECT_EQ(peer->gid, getegid());
  EXPECT_EQ(peer->pid, getpid());
  std::vector<gid_t> groups(static_cast<size_t>(std::max(0, getgroups(0, nullptr))));
  ASSERT_EQ(getgroups(static_cast<int>(groups.size()), groups.data()),
            static_cast<int>(groups.size()));
  EXPECT_EQ(std::vector<gid_t>(peer->groups).size(), groups.size());
  EXPECT_TRUE(
      std::is_permutation(peer->groups.begin(), peer->groups.end(), groups.begin(), groups.end()));
}

TEST(PeerTable, ManyGroups) {
  if (geteuid() != 0) {
    if (testsupport::MustRunAllTests()) FAIL() << "only root can join groups";
    GTEST_SKIP() << "only root can join groups";
  }
  std::vector<gid_t> before(static_cast<size_t>(std::max(0, getgroups(0, nullptr))));
  getgroups(static_cast<int>(before.size()), before.data());
  std::vector<gid_t> many(1000);
  for (size_t i = 0; i < many.size(); ++i) many[i] = static_cast<gid_t>(50000 + i);
  ASSERT_EQ(setgroups(many.size(), many.data()), 0);
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const UniqueFd here(ends[0]);
  const UniqueFd there(ends[1]);
  ASSERT_EQ(setgroups(before.size(), before.data()), 0);
  const absl::StatusOr<Peer> peer = PeerOfSocket(here.get());
  ASSERT_TRUE(peer.ok()) << peer.status();
  EXPECT_EQ(peer->groups, many);
}

TEST(PeerTable, OnlyDescriptorsThatWereSetAreKnown) {
  PeerTable peers;
  Peer peer;
  peer.kind = Peer::Kind::kLocal;
  peer.uid = 5;
  peers.Set(7, peer);
  EXPECT_EQ(peers.Find("fd:7").uid, 5U);
  for (const char* text : {"fd:8", "fd:", "fd:7x", "fd:-7", "unix:7", "ipv4:7", "", "7"}) {
    EXPECT_EQ(peers.Find(text).kind, Peer::Kind::kUnknown) << text;
  }
  peer.uid = 6;
  peers.Set(7, peer);
  EXPECT_EQ(peers.Find("fd:7").uid, 6U);
}

}  // namespace
}  // namespace pbkfs
