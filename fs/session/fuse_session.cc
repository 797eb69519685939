#include "fs/session/fuse_session.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
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

// FUSE_NOTIFY_RESEND and FUSE_HAS_RESEND (bit 39 of the flags) of kernel 6.9, which Debian 12's
// headers do not know yet.
constexpr int32_t kNotifyResend = 7;
constexpr uint32_t kHasResendFlag2 = 1u << 7;

// What a thread reads a request into: the kernel's header and the largest write.
constexpr size_t kReceiveBytes = (size_t{1} << 20) + 4096;
// Of it, what is in memory before the first request: a copy into memory that is not there, while
// the process dies, would end the request with an error. The rest follows with the first write of
// the mount: for each thread of mounts that are only read it would be too much.
constexpr size_t kResidentBytes = (size_t{128} << 10) + 4096;

// Changes no byte, so that the buffer may be in use. Best effort.
void MakeResident(uint8_t* bytes, size_t size) { madvise(bytes, size, MADV_POPULATE_WRITE); }

// A receive buffer of one thread.
class ReceiveBuffer {
 public:
  ReceiveBuffer()
      : bytes_(static_cast<uint8_t*>(mmap(nullptr, kReceiveBytes, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    if (bytes_ == MAP_FAILED) abort();  // As operator new would.
  }
  ~ReceiveBuffer() { munmap(bytes_, kReceiveBytes); }
  ReceiveBuffer(const ReceiveBuffer&) = delete;
  ReceiveBuffer& operator=(const ReceiveBuffer&) = delete;
  uint8_t* bytes() { return bytes_; }
  // Gives the memory back, until MakeResident.
  void Release() { madvise(bytes_, kReceiveBytes, MADV_DONTNEED); }

 private:
  uint8_t* const bytes_;
};

fuse_in_header HeaderOf(const uint8_t* message) {
  fuse_in_header header;
  memcpy(&header, message, sizeof(header));
  return header;
}

// Messages that are not in the queue of requests: their place says nothing about the others.
bool HasOwnQueue(uint32_t opcode) {
  return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT;
}

bool ChangesNames(uint32_t opcode) {
  switch (opcode) {
    case FUSE_CREATE:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_SYMLINK:
    case FUSE_LINK:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
      return true;
    default:
      return false;
  }
}

// The kernel's first message.
std::optional<fuse_init_in> KernelInit(const SessionMemory& memory) {
  const absl::Span<const uint8_t> message = memory.init();
  fuse_init_in init;
  if (message.size() < sizeof(fuse_in_header) + sizeof(init)) return std::nullopt;
  memcpy(&init, message.data() + sizeof(fuse_in_header), sizeof(init));
  return init;
}

}  // namespace

FuseSession::FuseSession(const SessionOptions& options, Overlay* overlay, SessionMemory* memory)
    : options_(options),
      overlay_(overlay),
      memory_(memory),
      handles_(memory->handles()),
      stats_(options.threads + ServingThreads::kMaxSpares, memory->counters()) {}

absl::StatusOr<std::unique_ptr<FuseSession>> FuseSession::Start(UniqueFd fuse_fd, Overlay* overlay,
                                                                SessionMemory* memory,
                                                                const SessionOptions& options) {
  auto session = std::unique_ptr<FuseSession>(new FuseSession(options, overlay, memory));
  PBKFS_RETURN_IF_ERROR(session->Open(std::move(fuse_fd)));
  PBKFS_RETURN_IF_ERROR(memory->init_reply().empty() ? session->BeginConnection()
                                                     : session->ResumeConnection());
  session->threads_ = std::make_unique<ServingThreads>(
      options.threads, [raw = session.get()](int thread, const ServingThreads::Next& next) {
        raw->Serve(thread, next);
      });
  return session;
}

absl::Status FuseSession::Open(UniqueFd fuse_fd) {
  context_ = std::make_unique<SessionContext>(SessionContext{overlay_, &stats_, &handles_, this});
  std::string program = "pbkfs";
  char* arguments[] = {program.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, arguments);
  session_ = fuse_session_new(&args, &FuseOperations(), sizeof(fuse_lowlevel_ops), context_.get());
  fuse_opt_free_args(&args);  // libfuse made a copy of them.
  if (session_ == nullptr) return absl::InternalError("libfuse can't make a session");
  fuse_custom_io io;
  memset(&io, 0, sizeof(io));
  io.writev = WriteReply;
  io.read = ReadNothing;
  if (fuse_session_custom_io(session_, &io, fuse_fd.get()) != 0) {
    return absl::InternalError("libfuse does not take the descriptor of the mount");
  }
  fd_ = fuse_fd.Release();
  return absl::OkStatus();
}

ssize_t FuseSession::WriteReply(int fd, iovec* parts, int count, void* context) {
  FuseSession* session = static_cast<SessionContext*>(context)->session;
  if (session->init_reply_ != nullptr) {
    for (int i = 0; i < count; ++i) {
      const auto* bytes = static_cast<const uint8_t*>(parts[i].iov_base);
      session->init_reply_->insert(session->init_reply_->end(), bytes, bytes + parts[i].iov_len);
    }
    if (!session->send_init_reply_) return static_cast<ssize_t>(session->init_reply_->size());
  }
  return writev(fd, parts, count);
}

// Requests are read by Receive.
ssize_t FuseSession::ReadNothing(int, void*, size_t, void*) {
  errno = ENOSYS;
  return -1;
}

void FuseSession::ExchangeInit(absl::Span<const uint8_t> message, bool send,
                               std::vector<uint8_t>* reply) {
  std::vector<uint8_t> bytes(message.begin(), message.end());
  fuse_buf buffer;
  memset(&buffer, 0, sizeof(buffer));
  buffer.mem = bytes.data();
  buffer.size = bytes.size();
  init_reply_ = reply;
  send_init_reply_ = send;
  fuse_session_process_buf(session_, &buffer);
  init_reply_ = nullptr;
}

absl::Status FuseSession::BeginConnection() {
  ReceiveBuffer buffer;
  MakeResident(buffer.bytes(), kResidentBytes);
  ssize_t received;
  do {
    received = read(fd_, buffer.bytes(), kReceiveBytes);
  } while (received < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT));
  if (received < 0) return ErrnoError(errno, "reading the kernel's first FUSE message");
  const fuse_in_header header = HeaderOf(buffer.bytes());
  if (header.opcode != FUSE_INIT) {
    return absl::InternalError("the kernel's first FUSE message is not INIT");
  }
  PBKFS_RETURN_IF_ERROR(
      memory_->SetInit(absl::MakeConstSpan(buffer.bytes(), static_cast<size_t>(received))));
  // Tells the kernel, with the form of an answer to an INTERRUPT, that this connection knows no
  // interrupts: PostgreSQL signals its processes all the time, and an interrupt that is lost with a
  // process would leave its request without an end.
  fuse_out_header no_interrupt = {sizeof(no_interrupt), -ENOSYS, header.unique | 1};
  if (write(fd_, &no_interrupt, sizeof(no_interrupt)) != sizeof(no_interrupt)) {
    return ErrnoError(errno, "switching off interrupts of a FUSE connection");
  }
  std::vector<uint8_t> reply;
  ExchangeInit(memory_->init(), /*send=*/true, &reply);
  return memory_->SetInitReply(reply);
}

absl::Status FuseSession::ResumeConnection() {
  std::vector<uint8_t> reply;
  ExchangeInit(memory_->init(), /*send=*/false, &reply);
  if (absl::MakeConstSpan(reply) != memory_->init_reply()) {
    return absl::UnimplementedError(
        "this program answers the kernel's first message differently than the one that made the "
        "mount: mount again to use it");
  }
  resending_.store(true, std::memory_order_release);
  return AskForResend();
}

// The requests without an answer go to the head of the kernel's queue.
absl::Status FuseSession::AskForResend() {
  const fuse_out_header notification = {sizeof(notification), kNotifyResend, 0};
  if (write(fd_, &notification, sizeof(notification)) == sizeof(notification)) {
    return absl::OkStatus();
  }
  return ErrnoError(errno, "asking the kernel for the requests that had no answer");
}

bool FuseSession::CanResend(const SessionMemory& memory) {
  const std::optional<fuse_init_in> init = KernelInit(memory);
  return init.has_value() && (init->flags & FUSE_INIT_EXT) != 0 &&
         (init->flags2 & kHasResendFlag2) != 0;
}

std::string FuseSession::KernelProtocol(const SessionMemory& memory) {
  const std::optional<fuse_init_in> init = KernelInit(memory);
  return init.has_value() ? absl::StrCat(init->major, ".", init->minor) : std::string();
}

std::string FuseSession::LibraryVersion() { return fuse_pkgversion(); }

ssize_t FuseSession::Receive(uint8_t* buffer) {
  if (resending_.load(std::memory_order_acquire)) {
    MutexLock lock(&resend_mutex_);
    if (resending_.load(std::memory_order_relaxed)) return ReceiveResent(buffer);
  }
  const ssize_t received = read(fd_, buffer, kReceiveBytes);
  return received < 0 ? -errno : received;
}

ssize_t FuseSession::ReceiveResent(uint8_t* buffer) {
  const ssize_t received = read(fd_, buffer, kReceiveBytes);
  if (received <= 0) return received < 0 ? -errno : received;
  const fuse_in_header header = HeaderOf(buffer);
  if (HasOwnQueue(header.opcode)) return received;
  if ((header.unique & kResendBit) != 0) {
    ++resent_in_flight_;
    memory_->resent().fetch_add(1, std::memory_order_relaxed);
    return received;
  }
  resending_.store(false, std::memory_order_release);
  if (resent_in_flight_ == 0) EndOfResends();
  return received;
}

void FuseSession::FinishResent() {
  MutexLock lock(&resend_mutex_);
  --resent_in_flight_;
  if (resent_in_flight_ == 0 && !resending_.load(std::memory_order_relaxed)) EndOfResends();
}

void FuseSession::EndOfResends() {
  for (const uint64_t ino : handles_.DropUnclaimed()) overlay_->Release(ino);
  overlay_->answers().EndOfResends();
}

void FuseSession::Serve(int thread, const ServingThreads::Next& next) {
  pthread_setname_np(pthread_self(), absl::StrCat("fuse-", thread).c_str());
  ReceiveBuffer buffer;
  AddBuffer(buffer.bytes());
  bool released = false;
  const auto idle = [&] {
    RemoveBuffer(buffer.bytes());
    buffer.Release();
    released = true;
  };
  while (fuse_session_exited(session_) == 0 && next(idle)) {
    if (std::exchange(released, false)) AddBuffer(buffer.bytes());
    const ssize_t received = Receive(buffer.bytes());
    // ENOENT: the request was taken back before it was read.
    if (received == -EINTR || received == -EAGAIN || received == -ENOENT) continue;
    if (received < static_cast<ssize_t>(sizeof(fuse_in_header))) break;  // Unmounted or aborted.
    const fuse_in_header header = HeaderOf(buffer.bytes());
    if (header.opcode == FUSE_WRITE && !memory_->written()) ExpectWrites();
    SetCurrentRequest(thread, header.unique, header.opcode, header.nodeid);
    fuse_buf message;
    memset(&message, 0, sizeof(message));
    message.mem = buffer.bytes();
    message.size = static_cast<size_t>(received);
    fuse_session_process_buf(session_, &message);
    if (ChangesNames(header.opcode)) overlay_->answers().Answered(header.unique & ~kResendBit);
    if ((header.unique & kResendBit) != 0 && !HasOwnQueue(header.opcode)) FinishResent();
  }
  if (!released) RemoveBuffer(buffer.bytes());
}

void FuseSession::AddBuffer(uint8_t* buffer) {
  MutexLock lock(&buffers_mutex_);
  buffers_.push_back(buffer);
  MakeResident(buffer, memory_->written() ? kReceiveBytes : kResidentBytes);
}

void FuseSession::RemoveBuffer(uint8_t* buffer) {
  MutexLock lock(&buffers_mutex_);
  buffers_.erase(std::find(buffers_.begin(), buffers_.end(), buffer));
}

void FuseSession::ExpectWrites() {
  MutexLock lock(&buffers_mutex_);
  if (memory_->written()) return;
  memory_->SetWritten();
  for (uint8_t* buffer : buffers_) MakeResident(buffer, kReceiveBytes);
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

FuseFigures FuseSession::Figures() const {
  FuseFigures figures = stats_.Figures(MonotonicNanos());
  figures.resent = memory_->resent().load(std::memory_order_relaxed);
  return figures;
}

}  // namespace pbkfs
