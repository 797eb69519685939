// One mount's FUSE session: reads the kernel's requests from its descriptor and answers them out of
// an Overlay.
//
// Threads live as long as the connection (fs/session/serving_threads.h); each serves its request to
// the end before it reads the next one (a pool behind the readers costs 5 us a request). The
// session ends
// when the kernel ends the connection: unmount or abort. It never unmounts by itself.
#ifndef PBKFS_FS_SESSION_FUSE_SESSION_H_
#define PBKFS_FS_SESSION_FUSE_SESSION_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fs/base/unique_fd.h"
#include "fs/overlay/overlay.h"
#include "fs/session/request_stats.h"
#include "fs/session/serving_threads.h"

struct fuse_session;

namespace pbkfs {

struct SessionContext;

struct SessionOptions {
  int threads = 8;
  std::string mount_id;  // For log lines.
};

class FuseSession {
 public:
  // Serves the mount whose /dev/fuse descriptor is `fuse_fd`; it is mounted already. `overlay`
  // outlives the session.
  static absl::StatusOr<std::unique_ptr<FuseSession>> Start(UniqueFd fuse_fd, Overlay* overlay,
                                                            const SessionOptions& options);
  // The connection must have ended, or be about to: waits for the threads.
  ~FuseSession();

  // False once the kernel ended the connection.
  bool alive() const { return threads_ != nullptr && threads_->alive(); }
  // Waits until the connection has ended and every request is answered.
  void Join();
  // Reads no more requests, though the kernel has not ended the connection; those that were read
  // are answered. False where some still are not at `deadline`.
  bool Stop(absl::Time deadline);
  FuseFigures Figures() const;

 private:
  explicit FuseSession(const SessionOptions& options);
  void Serve(int thread, const ServingThreads::Next& next);

  const SessionOptions options_;
  RequestStats stats_;
  std::unique_ptr<SessionContext> context_;
  fuse_session* session_ = nullptr;
  std::unique_ptr<ServingThreads> threads_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_SESSION_FUSE_SESSION_H_
