#include "fs/catalog/unpacked_segments.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

// With the gzip header and trailer, CRC and length included, checked by zlib.
constexpr int kGzipWindowBits = 15 + 16;

absl::Status Damaged(absl::string_view path, absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt,
                     absl::StrCat(path, " is damaged: ", what,
                                  "; put back a good copy of the segment in its place"));
}

absl::Status WriteAll(int fd, int64_t offset, absl::Span<const uint8_t> data) {
  while (!data.empty()) {
    const ssize_t count = pwrite(fd, data.data(), data.size(), offset);
    if (count < 0) {
      if (errno == EINTR) continue;
      return ErrnoError(errno, "writing an unpacked WAL segment into the state directory");
    }
    offset += count;
    data.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

// Reads a file from its beginning to its end.
class Input {
 public:
  explicit Input(int fd) : fd_(fd), buffer_(kUnpackChunkBytes) {}

  // Empty at the end of the file.
  absl::StatusOr<absl::Span<uint8_t>> Next() {
    while (true) {
      const ssize_t count = pread(fd_, buffer_.data(), buffer_.size(), offset_);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return ErrnoError(errno, absl::StrCat("cannot read at offset ", offset_));
      offset_ += count;
      return absl::MakeSpan(buffer_.data(), static_cast<size_t>(count));
    }
  }

 private:
  const int fd_;
  int64_t offset_ = 0;
  std::vector<uint8_t> buffer_;
};

class Inflater {
 public:
  Inflater() { ok_ = inflateInit2(&stream_, kGzipWindowBits) == Z_OK; }
  ~Inflater() {
    if (ok_) inflateEnd(&stream_);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  bool ok() const { return ok_; }
  z_stream& stream() { return stream_; }

 private:
  z_stream stream_ = {};
  bool ok_ = false;
};

// Writes what `in` unpacks to, at most `most` bytes, and returns how many there were.
absl::StatusOr<int64_t> Unpack(int in, int out, absl::string_view path, int64_t most) {
  Inflater inflater;
  if (!inflater.ok()) return absl::ResourceExhaustedError("no memory to unpack a WAL segment");
  z_stream& stream = inflater.stream();
  Input input(in);
  std::vector<uint8_t> chunk(kUnpackChunkBytes);
  int64_t written = 0;
  for (int result = Z_OK; result != Z_STREAM_END;) {
    if (stream.avail_in == 0) {
      PBKFS_ASSIGN_OR_RETURN(const absl::Span<uint8_t> bytes, input.Next());
      if (bytes.empty()) return Damaged(path, "the file ends too early");
      stream.next_in = bytes.data();
      stream.avail_in = static_cast<uInt>(bytes.size());
    }
    stream.next_out = chunk.data();
    stream.avail_out = static_cast<uInt>(chunk.size());
    result = inflate(&stream, Z_NO_FLUSH);
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
      return Damaged(path, stream.msg == nullptr ? "not gzip" : stream.msg);
    }
    const size_t count = chunk.size() - stream.avail_out;
    if (static_cast<int64_t>(count) > most - written) {
      return Damaged(path, absl::StrCat("it unpacks to more than ", most, " bytes"));
    }
    PBKFS_RETURN_IF_ERROR(WriteAll(out, written, absl::MakeConstSpan(chunk.data(), count)));
    written += static_cast<int64_t>(count);
  }
  PBKFS_ASSIGN_OR_RETURN(const absl::Span<uint8_t> rest, input.Next());
  if (stream.avail_in > 0 || !rest.empty()) return Damaged(path, "bytes follow the packed segment");
  return written;
}

}  // namespace

absl::StatusOr<UniqueFd> UnpackedSegments::MakeFile() const {
  UniqueFd fd(open(directory_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd.valid()) return fd;
  // Not every file system has files without a name.
  std::string name = absl::StrCat(directory_, "/segment-XXXXXX");
  fd.Reset(mkostemp(name.data(), O_CLOEXEC));
  if (!fd.valid()) return ErrnoError(errno, absl::StrCat("making a file in ", directory_));
  unlink(name.c_str());
  return fd;
}

absl::StatusOr<std::shared_ptr<const UnpackedSegment>> UnpackedSegments::Get(const OpenedFile& file,
                                                                             absl::string_view path,
                                                                             int64_t bytes,
                                                                             bool partial) {
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<UnpackedSegment> segment,
                         Reserve(file.identity, bytes));
  absl::Status status;
  {
    MutexLock lock(&segment->mutex_);
    if (segment->fd_.valid()) return segment;
    absl::StatusOr<UniqueFd> unpacked = UnpackToFile(file, path, bytes, partial);
    if (unpacked.ok()) {
      segment->fd_ = *std::move(unpacked);
      return segment;
    }
    status = unpacked.status();
  }
  Forget(file.identity, segment.get());
  return status;
}

absl::StatusOr<UniqueFd> UnpackedSegments::UnpackToFile(const OpenedFile& file,
                                                        absl::string_view path, int64_t bytes,
                                                        bool partial) const {
  PBKFS_ASSIGN_OR_RETURN(UniqueFd out, MakeFile());
  PBKFS_ASSIGN_OR_RETURN(const int64_t count, Unpack(file.fd.get(), out.get(), path, bytes));
  if (count < bytes && !partial) {
    return Damaged(path, absl::StrCat("it unpacks to ", count, " bytes instead of ", bytes));
  }
  if (ftruncate(out.get(), bytes) != 0) return ErrnoError(errno, "unpacking a WAL segment");
  struct stat st;
  if (fstat(file.fd.get(), &st) != 0 || !(IdentityOf(st) == file.identity)) {
    return ErrnoError(EIO, absl::StrCat(path, " was changed while it was read"));
  }
  return out;
}

absl::StatusOr<std::shared_ptr<UnpackedSegment>> UnpackedSegments::Reserve(
    const FileIdentity& identity, int64_t bytes) {
  MutexLock lock(&mutex_);
  const auto known = entries_.find(identity);
  if (known != entries_.end()) {
    known->second.last_use = ++clock_;
    return known->second.segment;
  }
  DropIdle(std::min(kMaxIdleUnpackedBytes, std::max<int64_t>(kMaxUnpackedBytes - bytes, 0)));
  if (bytes_ + bytes > kMaxUnpackedBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("unpacked WAL segments take ", bytes_,
                     " bytes already: too many servers recover at the same time; try again"));
  }
  Entry entry;
  entry.segment = std::make_shared<UnpackedSegment>();
  entry.bytes = bytes;
  entry.last_use = ++clock_;
  bytes_ += bytes;
  return entries_.emplace(identity, std::move(entry)).first->second.segment;
}

void UnpackedSegments::DropIdle(int64_t most_bytes) {
  // Nobody can take what only the table holds while the table is locked.
  std::vector<std::pair<uint64_t, FileIdentity>> idle;
  int64_t idle_bytes = 0;
  for (const auto& [identity, entry] : entries_) {
    if (entry.segment.use_count() > 1) continue;
    idle.emplace_back(entry.last_use, identity);
    idle_bytes += entry.bytes;
  }
  std::sort(idle.begin(), idle.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [last_use, identity] : idle) {
    if (idle_bytes <= most_bytes) return;
    const auto entry = entries_.find(identity);
    idle_bytes -= entry->second.bytes;
    bytes_ -= entry->second.bytes;
    entries_.erase(entry);
  }
}

void UnpackedSegments::Forget(const FileIdentity& identity, const UnpackedSegment* segment) {
  MutexLock lock(&mutex_);
  const auto entry = entries_.find(identity);
  if (entry == entries_.end() || entry->second.segment.get() != segment) return;
  bytes_ -= entry->second.bytes;
  entries_.erase(entry);
}

int64_t UnpackedSegments::Bytes() const {
  MutexLock lock(&mutex_);
  return bytes_;
}

}  // namespace pbkfs
