// The gate that calls pass, and what the identity of a local caller rests on: the number of a
// connection's descriptor is not given to another one as long as a call of the connection exists.
#include "service/api_server.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "fs/base/status.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel_posix.h"
#include "gtest/gtest.h"
#include "service/call_gate.h"
#include "service/peer_table.h"

namespace pbkfs {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

v1::DaemonConfig Config() {
  v1::DaemonConfig config;
  config.mutable_limits()->set_max_concurrent_calls(8);
  config.mutable_limits()->set_max_connections(8);
  config.mutable_limits()->set_max_request_bytes(1 << 20);
  return config;
}

Peer Local(uid_t uid) {
  Peer peer;
  peer.kind = Peer::Kind::kLocal;
  peer.uid = uid;
  return peer;
}

// Stays in the call until it is let go, and then looks at its descriptor.
class Holding final : public Health::Service {
 public:
  explicit Holding(const CallGate& gate) : gate_(gate) {}

  grpc::Status Check(grpc::ServerContext* context, const HealthCheckRequest*,
                     HealthCheckResponse*) override {
    inside = true;
    while (!go_on) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    cancelled = context->IsCancelled();
    const std::string name = context->peer();
    if (absl::SimpleAtoi(name.substr(3), &descriptor)) {
      open = fcntl(descriptor, F_GETFD) >= 0;
    }
    uid = gate_.PeerOf(*context).uid;
    left = true;
    return grpc::Status::OK;
  }

  std::atomic<bool> inside = false;
  std::atomic<bool> go_on = false;
  std::atomic<bool> left = false;
  bool cancelled = false;
  bool open = false;
  int descriptor = -1;
  uid_t uid = 0;

 private:
  const CallGate& gate_;
};

void WaitFor(const std::atomic<bool>& condition) {
  while (!condition) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST(ApiServer, ACallKeepsTheNumberOfItsConnection) {
  const ConfigHolder config(Config());
  PeerTable peers;
  RpcFigures figures;
  CallGate gate(config, peers, figures);
  Holding service(gate);
  const auto server = ApiServer::Start(*config.Get(), {&service}, gate, /*optional=*/false);
  ASSERT_TRUE(server.ok()) << server.status();
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
  const int number = ends[0];
  peers.Set(number, Local(4711));
  (*server)->AddLocal(UniqueFd(ends[0]));
  std::thread client([&] {
    const auto stub = Health::NewStub(grpc::CreateInsecureChannelFromFd("test", ends[1]));
    grpc::ClientContext context;
    HealthCheckResponse response;
    // Ends when the connection is cut below.
    EXPECT_FALSE(stub->Check(&context, HealthCheckRequest(), &response).ok());
  });
  WaitFor(service.inside);
  ASSERT_EQ(shutdown(number, SHUT_RDWR), 0);
  client.join();
  // Whoever connects now gets another number.
  std::vector<UniqueFd> others;
  for (int i = 0; i < 100; ++i) {
    others.emplace_back(fcntl(ends[0], F_DUPFD_CLOEXEC, 0));
    EXPECT_NE(others.back().get(), number);
  }
  others.clear();
  service.go_on = true;
  WaitFor(service.left);
  EXPECT_EQ(service.descriptor, number);
  EXPECT_TRUE(service.open);
  EXPECT_EQ(service.uid, 4711U);
  // Only when the call is over does the number come back.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (fcntl(number, F_GETFD) >= 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_LT(fcntl(number, F_GETFD), 0);
}

TEST(CallGate, AQuarterOfTheCallsIsForAdministrators) {
  const ConfigHolder config(Config());
  const PeerTable peers;
  RpcFigures figures;
  CallGate gate(config, peers, figures);
  const Peer caller = Local(geteuid() + 1000);
  std::vector<CallGate::Ticket> tickets;
  for (int i = 0; i < 6; ++i) {
    absl::StatusOr<CallGate::Ticket> ticket = gate.Enter(caller);
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    tickets.push_back(*std::move(ticket));
  }
  absl::Status full = gate.Enter(caller).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(full), "CALL_LIMIT");
  for (int i = 0; i < 2; ++i) {
    absl::StatusOr<CallGate::Ticket> ticket = gate.Enter(Local(0));
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    tickets.push_back(*std::move(ticket));
  }
  EXPECT_EQ(ReasonOf(gate.Enter(Local(0)).status()), "CALL_LIMIT");
  tickets.clear();
  EXPECT_TRUE(gate.Enter(caller).ok());
  EXPECT_EQ(ReasonOf(gate.Enter(Peer()).status()), "CALLER_NOT_ALLOWED");
}

TEST(CallGate, AReloadDecidesAboutTheNextCall) {
  ConfigHolder config(Config());
  const PeerTable peers;
  RpcFigures figures;
  CallGate gate(config, peers, figures);
  const Peer caller = Local(geteuid() + 1000);
  EXPECT_TRUE(gate.Enter(caller).ok());
  v1::DaemonConfig next = Config();
  next.add_callers()->set_uid(geteuid() + 1001);
  config.Replace(next);
  EXPECT_EQ(ReasonOf(gate.Enter(caller).status()), "CALLER_NOT_ALLOWED");
}

}  // namespace
}  // namespace pbkfs
