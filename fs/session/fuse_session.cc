#include "fs/session/fuse_session.h"

#include <pthread.h>
#include <signal.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fs/base/status.h"
#include "fs/session/fuse_operations.h"
#include "linux/fuse.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

constexpr int kWakeSignal = SIGUSR1;
constexpr absl::Duration kWakePeriod = absl::Milliseconds(10);

}  // namespace

FuseSession::FuseSession(const SessionOptions& options)
    : options_(options), stats_(options.threads + ServingThreads::kMaxSpares) {}

absl::StatusOr<std::unique_ptr<FuseSession>> FuseSession::Start(UniqueFd fuse_fd, Overlay* overlay,
                                                                const SessionOptions& options) {
  auto session = std::unique_ptr<FuseSession>(new FuseSession(options));
  session->context_ = std::make_unique<SessionContext>(SessionContext{overlay, &session->stats_});
  std::string program = "pbkfs";
  char* arguments[] = {program.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, arguments);
  session->session_ = fuse_session_new(&args, &FuseOperations(), sizeof(fuse_lowlevel_ops),
                                       session->context_.get());
  if (session->session_ == nullptr) return absl::InternalError("libfuse can't make a session");
  // libfuse takes over a descriptor that is mounted already under this name, and closes it at the
  // end.
  const std::string name = absl::StrCat("/dev/fd/", fuse_fd.get());
  if (fuse_session_mount(session->session_, name.c_str()) != 0) {
    return absl::InternalError("libfuse does not take the descriptor of the mount");
  }
  fuse_fd.Release();
  session->threads_ = std::make_unique<ServingThreads>(
      options.threads, [raw = session.get()](int thread, const ServingThreads::Next& next) {
        raw->Serve(thread, next);
      });
  return session;
}

void FuseSession::Serve(int thread, const ServingThreads::Next& next) {
  pthread_setname_np(pthread_self(), absl::StrCat("fuse-", thread).c_str());
  fuse_buf buffer;
  memset(&buffer, 0, sizeof(buffer));
  while (fuse_session_exited(session_) == 0 && next()) {
    const int received = fuse_session_receive_buf(session_, &buffer);
    if (received == -EINTR || received == -EAGAIN) continue;
    if (received <= 0) break;  // Unmounted, aborted, or nothing that could be read again.
    fuse_in_header header;
    memcpy(&header, buffer.mem, sizeof(header));
    SetCurrentRequest(thread, header.unique, header.opcode);
    fuse_session_process_buf(session_, &buffer);
  }
  free(buffer.mem);
}

void FuseSession::Join() {
  if (threads_ == nullptr) return;
  const bool served = threads_->alive();
  threads_->Join();
  if (served) spdlog::info("mount {}: the connection to the kernel has ended", options_.mount_id);
}

bool FuseSession::Stop(absl::Time deadline) {
  // A handler that does nothing makes the read of a waiting thread fail with EINTR.
  struct sigaction wake = {};
  wake.sa_handler = [](int) {};
  sigaction(kWakeSignal, &wake, nullptr);
  fuse_session_exit(session_);
  while (alive() && absl::Now() < deadline) {
    // Again and again: a thread that has yet to begin its read misses the first one.
    threads_->Signal(kWakeSignal);
    absl::SleepFor(kWakePeriod);
  }
  return !alive();
}

FuseSession::~FuseSession() {
  Join();
  if (session_ != nullptr) fuse_session_destroy(session_);
}

FuseFigures FuseSession::Figures() const { return stats_.Figures(MonotonicNanos()); }

}  // namespace pbkfs
