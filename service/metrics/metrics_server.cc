#include "service/metrics/metrics_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "civetweb.h"
#include "fs/base/mutex.h"
#include "fs/base/unique_fd.h"
#include "prometheus/text_serializer.h"
#include "service/metrics/limits.h"
#include "service/metrics/metrics.h"
#include "service/metrics/status_page.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

constexpr char kPlain[] = "text/plain; charset=utf-8";
constexpr char kExposition[] = "text/plain; version=0.0.4; charset=utf-8";
constexpr char kHtml[] = "text/html; charset=utf-8";

struct Answer {
  int code = 200;
  const char* reason = "OK";
  const char* type = kPlain;
  std::string body;
};

// Lets one thread at a time sample figures; others give up after a while.
class SampleGate {
 public:
  bool Enter() {
    const absl::Time deadline = absl::Now() + kSampleWait;
    MutexLock lock(&mutex_);
    while (busy_) {
      const absl::Duration rest = deadline - absl::Now();
      if (rest <= absl::ZeroDuration()) return false;
      left_.WaitFor(&mutex_, absl::ToChronoMilliseconds(rest) + std::chrono::milliseconds(1));
    }
    busy_ = true;
    return true;
  }
  void Leave() {
    MutexLock lock(&mutex_);
    busy_ = false;
    left_.SignalAll();
  }

 private:
  Mutex mutex_;
  CondVar left_;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
};

// What is at which path. Safe from any thread.
class Site {
 public:
  explicit Site(MetricsSources sources) : sources_(std::move(sources)) {}

  Answer Get(const std::string& path) {
    if (path == "/healthz") return {200, "OK", kPlain, "ok\n"};
    if (path == "/readyz") return Ready();
    if (path != "/metrics" && path != "/") {
      return {404, "Not Found", kPlain, "There are /, /metrics, /healthz and /readyz.\n"};
    }
    if (!gate_.Enter()) {
      return {503, "Service Unavailable", kPlain,
              "The figures can't be read: a file system below a diff does not answer.\n"};
    }
    StatusPageInput input;
    input.stats = sources_.stats();
    if (path == "/") input.mounts = sources_.mounts();
    gate_.Leave();
    if (path == "/") {
      input.not_ready = sources_.not_ready();
      return {200, "OK", kHtml, StatusPage(input)};
    }
    std::ostringstream text;
    prometheus::TextSerializer().Serialize(text, MetricFamiliesOf(input.stats));
    return {200, "OK", kExposition, text.str()};
  }

 private:
  Answer Ready() const {
    const std::vector<std::string> reasons = sources_.not_ready();
    if (reasons.empty()) return {200, "OK", kPlain, "ready\n"};
    std::string body = "not ready\n";
    for (const std::string& reason : reasons) {
      absl::StrAppend(&body, absl::StrReplaceAll(reason, {{"\n", " "}, {"\r", " "}}), "\n");
    }
    return {503, "Service Unavailable", kPlain, std::move(body)};
  }

  const MetricsSources sources_;
  SampleGate gate_;
};

// Gives up on a client that does not take the answer in time.
void Write(mg_connection* connection, absl::string_view text) {
  const absl::Time deadline = absl::Now() + kWebAnswerLimit;
  while (!text.empty() && absl::Now() < deadline) {
    const absl::string_view piece = text.substr(0, kWebPieceBytes);
    if (mg_write(connection, piece.data(), piece.size()) != static_cast<int>(piece.size())) return;
    text.remove_prefix(piece.size());
  }
}

// Every request goes through here, whatever its method: nothing of the library's own is served.
int BeginRequest(mg_connection* connection) {
  const mg_request_info* request = mg_get_request_info(connection);
  const absl::string_view method = request->request_method;
  Answer answer;
  const char* allow = "";
  if (method == "GET" || method == "HEAD") {
    auto* site = static_cast<Site*>(request->user_data);
    answer = site->Get(request->local_uri == nullptr ? "" : request->local_uri);
  } else {
    answer = {405, "Method Not Allowed", kPlain, "Only GET and HEAD.\n"};
    allow = "Allow: GET, HEAD\r\n";
  }
  const std::string head = absl::StrCat(
      "HTTP/1.1 ", answer.code, " ", answer.reason, "\r\nContent-Type: ", answer.type,
      "\r\nContent-Length: ", answer.body.size(), "\r\n", allow,
      "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: "
      "no-referrer\r\n"
      "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors "
      "'none'; base-uri 'none'; form-action 'none'\r\nConnection: close\r\n\r\n");
  Write(connection, method == "HEAD" ? head : absl::StrCat(head, answer.body));
  return answer.code;
}

int LogMessage(const mg_connection*, const char* message) {
  spdlog::debug("metrics address: {}", message);
  return 1;
}

class CivetMetricsServer : public MetricsServer {
 public:
  explicit CivetMetricsServer(MetricsSources sources) : site_(std::move(sources)) {}

  bool Listen(const std::string& address) {
    const std::string threads = absl::StrCat(kWebThreads);
    const std::string timeout = absl::StrCat(absl::ToInt64Milliseconds(kWebTimeout));
    const char* options[] = {"listening_ports",    address.c_str(), "num_threads", threads.c_str(),
                             "request_timeout_ms", timeout.c_str(), nullptr};
    mg_callbacks callbacks = {};
    callbacks.begin_request = BeginRequest;
    callbacks.log_message = LogMessage;
    context_ = mg_start(&callbacks, &site_, options);
    if (context_ == nullptr) return false;
    mg_server_port port = {};
    if (mg_get_server_ports(context_, 1, &port) == 1) port_ = port.port;
    host_ = address.substr(0, address.rfind(':'));
    return true;
  }

  // The library looks for the end only every two seconds, or when somebody connects.
  ~CivetMetricsServer() override {
    if (context_ == nullptr) return;
    std::atomic<bool> closed = false;
    std::thread waker([this, &closed] {
      while (!closed.load()) {
        Connect();
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    });
    mg_stop(context_);
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

  Site site_;
  mg_context* context_ = nullptr;
  std::string host_;
  int port_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(const std::string& address,
                                                                    MetricsSources sources) {
  auto server = std::make_unique<CivetMetricsServer>(std::move(sources));
  if (!server->Listen(address)) {
    return absl::UnavailableError(absl::StrCat(
        "metrics can't be served on ", address,
        "; is the port taken? choose another one with --metrics HOST:PORT, or --metrics off"));
  }
  return std::unique_ptr<MetricsServer>(std::move(server));
}

}  // namespace pbkfs
