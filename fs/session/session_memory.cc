#include "fs/session/session_memory.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"

namespace pbkfs {
namespace {

constexpr char kMagic[8] = {'P', 'B', 'K', 'F', 'S', 'M', 'E', 'M'};
constexpr uint32_t kSyncFailed = 1;
constexpr uint32_t kLogFailed = 2;
constexpr uint32_t kWritten = 4;

constexpr size_t OnPage(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

}  // namespace

struct SessionMemory::Header {
  char magic[8];
  uint32_t version;
  std::atomic<uint32_t> flags;
  uint64_t session_nonce;
  std::atomic<uint64_t> resent;
  uint32_t init_bytes;
  uint32_t reply_bytes;
  uint8_t init[kMaxInitBytes];
  uint8_t reply[kMaxInitBytes];
};

namespace {

constexpr size_t kCountersAt = 4096;
constexpr size_t kFiguresAt = kCountersAt + OnPage(sizeof(RequestStats::Counters));
constexpr size_t kWaitsAt = kFiguresAt + OnPage(sizeof(IoStats));
constexpr size_t kHandlesAt = kWaitsAt + OnPage(sizeof(PendingCounters));
constexpr size_t kBytes = kHandlesAt + SessionMemory::kMaxHandles * sizeof(HandleEntry);

static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(std::is_standard_layout_v<IoStats>);
static_assert(std::is_standard_layout_v<PendingCounters>);
static_assert(std::is_standard_layout_v<RequestStats::Counters>);

}  // namespace

absl::StatusOr<std::unique_ptr<SessionMemory>> SessionMemory::Create(uint64_t nonce) {
  UniqueFd fd(memfd_create("pbkfs-session", MFD_CLOEXEC));
  if (!fd.valid() || ftruncate(fd.get(), kBytes) != 0) {
    return ErrnoError(errno, "memory for a FUSE connection");
  }
  PBKFS_ASSIGN_OR_RETURN(std::unique_ptr<SessionMemory> memory, MapWhole(std::move(fd)));
  Header& header = memory->header();
  memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kVersion;
  header.session_nonce = nonce;
  return memory;
}

absl::StatusOr<std::unique_ptr<SessionMemory>> SessionMemory::Map(UniqueFd fd) {
  struct stat attributes;
  if (fstat(fd.get(), &attributes) != 0) return ErrnoError(errno, "memory of a FUSE connection");
  if (attributes.st_size < static_cast<off_t>(sizeof(Header))) {
    return absl::DataLossError("the memory of a FUSE connection is cut short");
  }
  const off_t size = attributes.st_size;
  PBKFS_ASSIGN_OR_RETURN(std::unique_ptr<SessionMemory> memory, MapWhole(std::move(fd)));
  const Header& header = memory->header();
  if (memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) {
    return absl::DataLossError("the memory of a FUSE connection has no header");
  }
  if (header.version != kVersion || size != static_cast<off_t>(kBytes)) {
    return absl::UnimplementedError(absl::StrCat("the memory of a FUSE connection has version ",
                                                 header.version, ", this program reads version ",
                                                 kVersion));
  }
  return memory;
}

absl::StatusOr<std::unique_ptr<SessionMemory>> SessionMemory::MapWhole(UniqueFd fd) {
  void* base = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) return ErrnoError(errno, "mapping the memory of a FUSE connection");
  return std::unique_ptr<SessionMemory>(
      new SessionMemory(std::move(fd), static_cast<uint8_t*>(base)));
}

SessionMemory::~SessionMemory() { munmap(base_, kBytes); }

SessionMemory::Header& SessionMemory::header() const { return *reinterpret_cast<Header*>(base_); }

uint64_t SessionMemory::session_nonce() const { return header().session_nonce; }

absl::Span<const uint8_t> SessionMemory::init() const {
  return {header().init, header().init_bytes};
}

absl::Span<const uint8_t> SessionMemory::init_reply() const {
  return {header().reply, header().reply_bytes};
}

absl::Status SessionMemory::SetInit(absl::Span<const uint8_t> message) {
  if (message.size() > kMaxInitBytes) return absl::InternalError("the INIT message is too long");
  memcpy(header().init, message.data(), message.size());
  header().init_bytes = static_cast<uint32_t>(message.size());
  return absl::OkStatus();
}

absl::Status SessionMemory::SetInitReply(absl::Span<const uint8_t> reply) {
  if (reply.size() > kMaxInitBytes) return absl::InternalError("the INIT reply is too long");
  memcpy(header().reply, reply.data(), reply.size());
  header().reply_bytes = static_cast<uint32_t>(reply.size());
  return absl::OkStatus();
}

void SessionMemory::SetSyncFailed() { header().flags.fetch_or(kSyncFailed); }
void SessionMemory::SetLogFailed(bool failed) {
  if (failed) {
    header().flags.fetch_or(kLogFailed);
  } else {
    header().flags.fetch_and(~kLogFailed);
  }
}
bool SessionMemory::sync_failed() const {
  return (header().flags.load() & (kSyncFailed | kLogFailed)) != 0;
}
void SessionMemory::SetWritten() { header().flags.fetch_or(kWritten); }
bool SessionMemory::written() const { return (header().flags.load() & kWritten) != 0; }
std::atomic<uint64_t>& SessionMemory::resent() { return header().resent; }

RequestStats::Counters* SessionMemory::counters() {
  return reinterpret_cast<RequestStats::Counters*>(base_ + kCountersAt);
}

IoStats* SessionMemory::figures() { return reinterpret_cast<IoStats*>(base_ + kFiguresAt); }

PendingCounters* SessionMemory::pending_counters() {
  return reinterpret_cast<PendingCounters*>(base_ + kWaitsAt);
}

absl::Span<HandleEntry> SessionMemory::handles() {
  return {reinterpret_cast<HandleEntry*>(base_ + kHandlesAt), kMaxHandles};
}

}  // namespace pbkfs
