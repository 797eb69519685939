// What a session agrees on with the kernel. The test plays the kernel's part over a socket pair.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "fs/session/fuse_operations.h"
#include "fs/session/fuse_session.h"
#include "linux/fuse.h"
#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

class InitTest : public testing::Test {
 protected:
  // Sends an INIT that offers everything, and returns the reply.
  fuse_init_out Initialize(const fuse_init_in& offer) {
    fuse_init_out reply = {};
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
      ADD_FAILURE() << "socketpair: " << strerror(errno);
      return reply;
    }
    UniqueFd kernel(ends[0]);
    fuse_in_header header = {};
    header.len = sizeof(header) + sizeof(offer);
    header.opcode = FUSE_INIT;
    header.unique = 2;
    std::string message(reinterpret_cast<const char*>(&header), sizeof(header));
    message.append(reinterpret_cast<const char*>(&offer), sizeof(offer));
    EXPECT_EQ(send(kernel.get(), message.data(), message.size(), 0),
              static_cast<ssize_t>(message.size()));
    const auto memory = *SessionMemory::Create(fs_.overlay().session_nonce());
    auto session = FuseSession::Start(UniqueFd(ends[1]), &fs_.overlay(), memory.get(),
                                      SessionOptions{1, "test"});
    EXPECT_TRUE(session.ok()) << session.status();
    // Before anything else, interrupts are switched off.
    fuse_out_header no_interrupt = {};
    EXPECT_EQ(recv(kernel.get(), &no_interrupt, sizeof(no_interrupt), 0),
              static_cast<ssize_t>(sizeof(no_interrupt)));
    EXPECT_EQ(no_interrupt.error, -ENOSYS);
    EXPECT_EQ(no_interrupt.unique, header.unique | 1);
    char answer[sizeof(fuse_out_header) + sizeof(fuse_init_out)];
    EXPECT_EQ(recv(kernel.get(), answer, sizeof(answer), 0), static_cast<ssize_t>(sizeof(answer)));
    memcpy(&reply, answer + sizeof(fuse_out_header), sizeof(reply));
    kernel.Reset();    // The connection ends …
    session->reset();  // … before its memory.
    return reply;
  }

  testsupport::OverlayFixture fs_{{}};
};

// The capabilities that this version of the daemon uses, all of them. Each one that is added here
// needs a reason and a test: ATOMIC_O_TRUNC hides truncations from SETATTR, AUTO_INVAL_DATA throws
// away pages that only we write, HANDLE_KILLPRIV would make us drop set-user-id bits, and
// WRITEBACK_CACHE loses acknowledged writes when the daemon dies.
TEST_F(InitTest, OnlyTheCapabilitiesOfTheListAreAskedFor) {
  fuse_init_in offer = {};
  offer.major = FUSE_KERNEL_VERSION;
  offer.minor = FUSE_KERNEL_MINOR_VERSION;
  offer.max_readahead = 1 << 20;
  offer.flags = ~uint32_t{0};
  offer.flags2 = ~uint32_t{0};
  const fuse_init_out reply = Initialize(offer);
  EXPECT_EQ(reply.major, 7u);
  EXPECT_EQ(reply.flags & (FUSE_ATOMIC_O_TRUNC | FUSE_AUTO_INVAL_DATA | FUSE_HANDLE_KILLPRIV |
                           FUSE_HANDLE_KILLPRIV_V2 | FUSE_WRITEBACK_CACHE),
            0u);
  // libfuse itself adds the sizes of requests: BIG_WRITES, MAX_PAGES, and INIT_EXT for the answer.
  // It knows PARALLEL_DIROPS, but version 3.14 does not hand it on to the kernel.
  const uint32_t of_libfuse =
      FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_INIT_EXT | FUSE_PARALLEL_DIROPS;
  EXPECT_EQ(reply.flags & ~of_libfuse,
            static_cast<uint32_t>(FUSE_ASYNC_READ | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO));
  EXPECT_EQ(reply.max_write, 1u << 20);
  EXPECT_EQ(reply.time_gran, 1u);
}

TEST_F(InitTest, TheListOfWantedCapabilitiesIsExplicit) {
  fuse_conn_info connection = {};
  connection.capable = ~0u;
  connection.want = ~0u;  // Whatever libfuse turned on is turned off.
  FuseOperations().init(nullptr, &connection);
  EXPECT_EQ(connection.want,
            static_cast<unsigned>(FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS |
                                  FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO));
}

TEST_F(InitTest, WhatTheKernelDoesNotOfferIsNotAskedFor) {
  fuse_init_in offer = {};
  offer.major = FUSE_KERNEL_VERSION;
  offer.minor = FUSE_KERNEL_MINOR_VERSION;
  offer.max_readahead = 1 << 20;
  offer.flags = FUSE_ASYNC_READ;
  EXPECT_EQ(Initialize(offer).flags & ~static_cast<uint32_t>(FUSE_BIG_WRITES),
            static_cast<uint32_t>(FUSE_ASYNC_READ));
}

}  // namespace
}  // namespace pbkfs
