#include "service/metrics_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "CivetServer.h"
#include "absl/strings/str_cat.h"
#include "fs/base/unique_fd.h"
#include "prometheus/text_serializer.h"

namespace pbkfs {
namespace {

// A scrape each few seconds from one or two collectors.
constexpr char kThreads[] = "2";

class MetricsHandler : public CivetHandler {
 public:
  explicit MetricsHandler(const prometheus::Collectable& collector) : collector_(collector) {}

  bool handleGet(CivetServer*, mg_connection* connection) override {
    std::ostringstream text;
    prometheus::TextSerializer().Serialize(text, collector_.Collect());
    const std::string body = text.str();
    mg_printf(connection,
              "HTTP/1.1 200 OK\r\n"
              "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
              "Content-Length: %zu\r\nConnection: close\r\n\r\n",
              body.size());
    mg_write(connection, body.data(), body.size());
    return true;
  }

 private:
  const prometheus::Collectable& collector_;
};

class CivetMetricsServer : public MetricsServer {
 public:
  CivetMetricsServer(const std::string& address, const prometheus::Collectable& collector)
      : handler_(collector),
        server_(std::vector<std::string>{"listening_ports", address, "num_threads", kThreads}) {
    server_.addHandler("/metrics", handler_);
    const std::vector<int> ports = server_.getListeningPorts();
    port_ = ports.empty() ? 0 : ports[0];
    host_ = address.substr(0, address.rfind(':'));
  }

  // The library looks for the end only every two seconds, or when somebody connects.
  ~CivetMetricsServer() override {
    std::atomic<bool> closed = false;
    std::thread waker([this, &closed] {
      while (!closed.load()) {
        Connect();
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    });
    server_.close();
    closed.store(true);
    waker.join();
  }

  int port() const override { return port_; }

 private:
  void Connect() const {
    sockaddr_in peer = {};
    peer.sin_family = AF_INET;
    peer.sin_port = htons(static_cast<uint16_t>(port_));
    if (inet_pton(AF_INET, host_.c_str(), &peer.sin_addr) != 1) {
      peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return;
    // Whether it succeeds does not matter: closing the server is what is waited for.
    (void)!connect(fd.get(), reinterpret_cast<const sockaddr*>(&peer), sizeof(peer));
  }

  MetricsHandler handler_;
  CivetServer server_;
  std::string host_;
  int port_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const std::string& address, const prometheus::Collectable& collector) {
  // The library reports failure with an exception; it goes no further.
  try {
    return std::unique_ptr<MetricsServer>(std::make_unique<CivetMetricsServer>(address, collector));
  } catch (const CivetException& error) {
    return absl::UnavailableError(
        absl::StrCat("metrics can't be served on ", address, " (", error.what(),
                     "); is the port taken? choose another one with --metrics HOST:PORT, or "
                     "--metrics off"));
  }
}

}  // namespace pbkfs
