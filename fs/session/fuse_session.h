// Answers the kernel's requests for one mount out of an Overlay.
//
// Threads live as long as the connection (fs/session/serving_threads.h); each serves its request to
// the end before it reads the next one (a pool behind the readers costs 5 us a request). The
// session ends
// when the kernel ends the connection: unmount or abort. It never unmounts by itself.
//
// A session survives its process: the kernel's requests wait, and a FuseSession of another process,
// over the same descriptor and the same SessionMemory, is given the kernel's first message again,
// asks for the requests that had no answer, and goes on.
#ifndef PBKFS_FS_SESSION_FUSE_SESSION_H_
#define PBKFS_FS_SESSION_FUSE_SESSION_H_

#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fs/base/mutex.h"
#include "fs/base/unique_fd.h"
#include "fs/overlay/overlay.h"
#include "fs/session/handle_table.h"
#include "fs/session/request_stats.h"
#include "fs/session/serving_threads.h"
#include "fs/session/session_memory.h"

struct fuse_session;
struct fuse_buf;

namespace pbkfs {

struct SessionContext;

struct SessionOptions {
  int threads = 8;
  std::string mount_id;  // For log lines.
};

class FuseSession {
 public:
  // Serves the mount whose /dev/fuse descriptor is `fuse_fd`; it is mounted already. `overlay` and
  // `memory` outlive the session. Where `memory` holds the first exchange with the kernel, the
  // connection goes on: UNIMPLEMENTED if this program would answer INIT differently, because
  // the kernel can't be told; nothing was read from the connection then.
  static absl::StatusOr<std::unique_ptr<FuseSession>> Start(UniqueFd fuse_fd, Overlay* overlay,
                                                            SessionMemory* memory,
                                                            const SessionOptions& options);
  // The connection must have ended, or be about to: waits for the threads.
  ~FuseSession();

  // Whether the kernel can send requests again after the process that served them died.
  static bool CanResend(const SessionMemory& memory);
  // The kernel's version of the protocol, "7.45"; "" where it has not said it.
  static std::string KernelProtocol(const SessionMemory& memory);
  // Of libfuse.
  static std::string LibraryVersion();

  // False once the kernel ended the connection.
  bool alive() const { return threads_ != nullptr && threads_->alive(); }
  // Waits until the connection has ended and every request is answered.
  void Join();
  // Reads no more requests, though the kernel has not ended the connection; those that were read
  // are answered. False where some still are not at `deadline`.
  bool Stop(absl::Time deadline);
  FuseFigures Figures() const;

 private:
  FuseSession(const SessionOptions& options, Overlay* overlay, SessionMemory* memory);

  // What libfuse writes goes through here.
  static ssize_t WriteReply(int fd, iovec* parts, int count, void* context);
  static ssize_t ReadNothing(int fd, void* buffer, size_t size, void* context);

  absl::Status Open(UniqueFd fuse_fd);
  absl::Status BeginConnection();
  absl::Status ResumeConnection();
  // Lets libfuse answer INIT; the answer goes to `reply`, and to the kernel if `send`.
  void ExchangeInit(absl::Span<const uint8_t> message, bool send, std::vector<uint8_t>* reply);
  absl::Status AskForResend();

  void Serve(int thread, const ServingThreads::Next& next);
  // Bytes of the next request, or -errno.
  ssize_t Receive(uint8_t* buffer) ABSL_LOCKS_EXCLUDED(resend_mutex_);
  // While requests that are sent again may be at the head of the kernel's queue.
  ssize_t ReceiveResent(uint8_t* buffer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(resend_mutex_);
  void AddBuffer(uint8_t* buffer) ABSL_LOCKS_EXCLUDED(buffers_mutex_);
  void RemoveBuffer(uint8_t* buffer) ABSL_LOCKS_EXCLUDED(buffers_mutex_);
  // Before the first write of the mount is served.
  void ExpectWrites() ABSL_LOCKS_EXCLUDED(buffers_mutex_);
  // After a request that was sent again is answered.
  void FinishResent() ABSL_LOCKS_EXCLUDED(resend_mutex_);
  void EndOfResends();

  const SessionOptions options_;
  Overlay* const overlay_;
  SessionMemory* const memory_;
  HandleTable handles_;
  RequestStats stats_;
  std::unique_ptr<SessionContext> context_;
  fuse_session* session_ = nullptr;
  int fd_ = -1;  // Owned by session_.

  // Where the answer to INIT goes while it is made; no other thread runs then.
  std::vector<uint8_t>* init_reply_ = nullptr;
  bool send_init_reply_ = false;

  // From a takeover until the first request that is not sent again has been read: one thread reads
  // at a time, so that it is known which requests that were sent again are being served.
  std::atomic<bool> resending_{false};
  Mutex resend_mutex_;
  int resent_in_flight_ ABSL_GUARDED_BY(resend_mutex_) = 0;

  // Of all threads; resident as a whole once the mount was written to.
  Mutex buffers_mutex_;
  std::vector<uint8_t*> buffers_ ABSL_GUARDED_BY(buffers_mutex_);

  std::unique_ptr<ServingThreads> threads_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_SESSION_FUSE_SESSION_H_
