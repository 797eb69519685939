// Memory of one FUSE connection that outlives the process which serves it: a memfd, held by the
// keeper for as long as the kernel knows the connection.
//
// Layout, version 3 (little-endian, as the machine has it; every part begins on a page):
//   header     magic "PBKFSMEM", u32 version, u32 flags, u64 session nonce, u64 requests resent,
//              u32 length of INIT, u32 length of the INIT reply, then 256 bytes for each of them
//   counters   RequestStats::Counters
//   figures    IoStats
//   waits      PendingCounters
//   handles    1,048,576 entries of 32 bytes: u64 handle, u64 ino, u32 flags, 12 bytes of zeros
// The part `handles` is sparse. A process that finds another version refuses the connection.
//
// Every counter and flag is a lock-free atomic whose all-zero bytes are a valid state: a process
// may die at any instruction.
#ifndef PBKFS_FS_SESSION_SESSION_MEMORY_H_
#define PBKFS_FS_SESSION_SESSION_MEMORY_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fs/base/io_stats.h"
#include "fs/base/unique_fd.h"
#include "fs/overlay/pending_ops.h"
#include "fs/session/request_stats.h"

namespace pbkfs {

// One open file or directory. `handle` is written last and cleared first; 0 = free.
struct HandleEntry {
  enum Flags : uint32_t { kReplied = 1 };
  std::atomic<uint64_t> handle;
  std::atomic<uint64_t> ino;
  std::atomic<uint32_t> flags;
  uint32_t reserved[3];
};
static_assert(sizeof(HandleEntry) == 32);

class SessionMemory {
 public:
  // Handles that may be open at once: more than the kernel's default for a whole machine.
  static constexpr size_t kMaxHandles = size_t{1} << 20;
  static constexpr size_t kMaxInitBytes = 256;
  static constexpr uint32_t kVersion = 3;

  // For a new connection. `nonce` is that of its session.
  static absl::StatusOr<std::unique_ptr<SessionMemory>> Create(uint64_t nonce);
  // Of a connection that goes on. UNIMPLEMENTED for another version, DATA_LOSS for something else.
  static absl::StatusOr<std::unique_ptr<SessionMemory>> Map(UniqueFd fd);
  ~SessionMemory();
  SessionMemory(const SessionMemory&) = delete;
  SessionMemory& operator=(const SessionMemory&) = delete;

  int descriptor() const { return fd_.get(); }
  uint64_t session_nonce() const;

  // The kernel's first message and the first answer to it; empty until they are set. Set once,
  // before other threads use the connection.
  absl::Span<const uint8_t> init() const;
  absl::Span<const uint8_t> init_reply() const;
  absl::Status SetInit(absl::Span<const uint8_t> message);
  absl::Status SetInitReply(absl::Span<const uint8_t> reply);

  // Something could not be made durable, and the diff's log could not keep that.
  void SetSyncFailed();
  // The log could not be made durable, or was written anew since.
  void SetLogFailed(bool failed);
  // Either of them.
  bool sync_failed() const;
  // The mount was written to.
  void SetWritten();
  bool written() const;
  std::atomic<uint64_t>& resent();

  RequestStats::Counters* counters();
  IoStats* figures();
  PendingCounters* pending_counters();
  absl::Span<HandleEntry> handles();

 private:
  struct Header;
  SessionMemory(UniqueFd fd, uint8_t* base) : fd_(std::move(fd)), base_(base) {}
  static absl::StatusOr<std::unique_ptr<SessionMemory>> MapWhole(UniqueFd fd);
  Header& header() const;

  const UniqueFd fd_;
  uint8_t* const base_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_SESSION_SESSION_MEMORY_H_
