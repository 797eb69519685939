#include "service/keeper/protocol.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "fs/base/bytes.h"
#include "fs/base/status.h"

namespace pbkfs {
namespace {

constexpr size_t kFixedBytes = 32;

absl::Status Malformed() { return absl::DataLossError("a message of the keeper is malformed"); }

}  // namespace

std::string EncodeMessage(const KeeperMessage& message) {
  std::string bytes(kFixedBytes, '\0');
  StoreLittleEndian(kKeeperProtocolVersion, bytes.data());
  StoreLittleEndian(static_cast<uint32_t>(message.call), bytes.data() + 4);
  StoreLittleEndian(message.tag, bytes.data() + 8);
  StoreLittleEndian(static_cast<uint32_t>(message.error), bytes.data() + 12);
  StoreLittleEndian(message.flags, bytes.data() + 16);
  StoreLittleEndian(message.number, bytes.data() + 24);
  for (const std::string* text : {&message.id, &message.target, &message.text}) {
    char length[4];
    StoreLittleEndian(static_cast<uint32_t>(text->size()), length);
    bytes.append(length, sizeof(length)).append(*text);
  }
  return bytes;
}

absl::StatusOr<KeeperMessage> DecodeMessage(absl::Span<const char> bytes) {
  if (bytes.size() < kFixedBytes) return Malformed();
  if (LoadLittleEndian<uint32_t>(bytes.data()) != kKeeperProtocolVersion) {
    return absl::UnimplementedError("keeper and worker speak different versions");
  }
  KeeperMessage message;
  message.call = static_cast<KeeperCall>(LoadLittleEndian<uint32_t>(bytes.data() + 4));
  message.tag = LoadLittleEndian<uint32_t>(bytes.data() + 8);
  message.error = static_cast<int32_t>(LoadLittleEndian<uint32_t>(bytes.data() + 12));
  message.flags = LoadLittleEndian<uint32_t>(bytes.data() + 16);
  message.number = LoadLittleEndian<uint64_t>(bytes.data() + 24);
  bytes.remove_prefix(kFixedBytes);
  for (std::string* text : {&message.id, &message.target, &message.text}) {
    if (bytes.size() < 4) return Malformed();
    const uint32_t length = LoadLittleEndian<uint32_t>(bytes.data());
    bytes.remove_prefix(4);
    if (bytes.size() < length) return Malformed();
    text->assign(bytes.data(), length);
    bytes.remove_prefix(length);
  }
  if (!bytes.empty()) return Malformed();
  return message;
}

absl::Status SendMessage(int socket, const KeeperMessage& message) {
  std::string bytes = EncodeMessage(message);
  if (bytes.size() > kMaxKeeperMessageBytes || message.descriptors.size() > kMaxKeeperDescriptors) {
    return absl::InternalError("a message to or from the keeper is too long");
  }
  iovec part = {bytes.data(), bytes.size()};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxKeeperDescriptors * sizeof(int))] = {};
  const size_t count = message.descriptors.size();
  if (count > 0) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (size_t i = 0; i < count; ++i) {
      const int fd = message.descriptors[i].get();
      memcpy(CMSG_DATA(rights) + i * sizeof(int), &fd, sizeof(fd));
    }
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return ErrnoError(errno, "sending a message between keeper and worker");
  return absl::OkStatus();
}

absl::StatusOr<KeeperMessage> ReceiveMessage(int socket) {
  char bytes[kMaxKeeperMessageBytes];
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxKeeperDescriptors * sizeof(int))];
  iovec part = {bytes, sizeof(bytes)};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  ssize_t received;
  do {
    received = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    return absl::UnavailableError("no message");
  }
  if (received < 0 && errno != ECONNRESET) {
    return ErrnoError(errno, "receiving a message between keeper and worker");
  }
  if (received <= 0) return absl::CancelledError("the other side has hung up");
  std::vector<UniqueFd> descriptors;
  for (cmsghdr* rights = CMSG_FIRSTHDR(&header); rights != nullptr;
       rights = CMSG_NXTHDR(&header, rights)) {
    if (rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(rights) + i * sizeof(int), sizeof(fd));
      descriptors.emplace_back(fd);
    }
  }
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return Malformed();
  PBKFS_ASSIGN_OR_RETURN(KeeperMessage message,
                         DecodeMessage(absl::MakeConstSpan(bytes, static_cast<size_t>(received))));
  message.descriptors = std::move(descriptors);
  return message;
}

}  // namespace pbkfs
