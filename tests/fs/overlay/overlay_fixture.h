// An overlay over a tree in memory and a diff in a temporary directory, with short ways to use it
// by path.
#ifndef PBKFS_TESTS_FS_OVERLAY_OVERLAY_FIXTURE_H_
#define PBKFS_TESTS_FS_OVERLAY_OVERLAY_FIXTURE_H_

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <string>

#include "fs/base/status.h"
#include "fs/overlay/overlay.h"
#include "tests/support/fault_io.h"
#include "tests/support/memory_tree.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs::testsupport {

inline absl::Span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// A number from the environment, for seeds and counts.
inline uint64_t Setting(const char* name, uint64_t fallback) {
  const char* value = getenv(name);
  return value == nullptr ? fallback : strtoull(value, nullptr, 10);
}

// A page that differs in every byte position from the neighbours' pages.
inline std::string Page(int seed, size_t size = kBlockSize) {
  std::string page(size, '\0');
  for (size_t i = 0; i < size; ++i)
    page[i] = static_cast<char>(seed * 31 + static_cast<int>(i % 251) + 1);
  return page;
}

// The inode at a path of an overlay, 0 where there is none.
inline uint64_t InoAt(Overlay& overlay, const std::string& path) {
  uint64_t ino = kRootIno;
  for (size_t at = 0; at < path.size();) {
    const size_t slash = std::min(path.find('/', at), path.size());
    const auto found = overlay.Lookup(ino, path.substr(at, slash - at));
    if (!found.ok()) return 0;
    ino = found->ino;
    at = slash + 1;
  }
  return ino;
}

class OverlayFixture {
 public:
  explicit OverlayFixture(std::map<std::string, MemoryTree::Entry> lower)
      : lower_(std::make_shared<MemoryTree>(std::move(lower))) {
    Mount();
  }
  FaultIo& io() { return io_; }

  MemoryTree& lower() { return *lower_; }
  Overlay& overlay() { return *overlay_; }
  std::string diff_path() const { return directory_.path() + "/diff"; }

  void Mount(const OverlayOptions& options = {}) {
    const absl::Status mounted = TryMount(options);
    ASSERT_TRUE(mounted.ok()) << mounted;
  }
  absl::Status TryMount(const OverlayOptions& options = {}) {
    DiffIdentity identity;
    identity.instance = "main";
    identity.backup_id = "TEST";
    identity.list_hash = lower_->ListHash();
    PBKFS_ASSIGN_OR_RETURN(auto diff, DiffStore::Open(io_, diff_path(), identity));
    PBKFS_ASSIGN_OR_RETURN(overlay_, Overlay::Create(lower_, std::move(diff), options));
    return absl::OkStatus();
  }
  absl::Status TryTakeOver(const OverlayOptions& options) {
    DiffIdentity identity;
    identity.instance = "main";
    identity.backup_id = "TEST";
    identity.list_hash = lower_->ListHash();
    PBKFS_ASSIGN_OR_RETURN(auto directory, io_.OpenDir(diff_path()));
    PBKFS_ASSIGN_OR_RETURN(auto diff,
                           DiffStore::TakeOver(io_, std::move(directory), diff_path(), identity));
    PBKFS_ASSIGN_OR_RETURN(overlay_, Overlay::Create(lower_, std::move(diff), options));
    return absl::OkStatus();
  }
  void Unmount() {
    ASSERT_TRUE(overlay_->Close().ok());
    overlay_.reset();
  }
  // A clean unmount and a new mount.
  void Remount() {
    Unmount();
    Mount();
  }
  // The process dies: nothing is synced or marked.
  void Die() { overlay_.reset(); }

  // 0 where there is no such name.
  uint64_t Ino(const std::string& path) { return InoAt(*overlay_, path); }
  std::pair<uint64_t, std::string> Split(const std::string& path) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return {kRootIno, path};
    return {Ino(path.substr(0, slash)), path.substr(slash + 1)};
  }

  absl::StatusOr<std::string> Read(const std::string& path, int64_t offset = 0,
                                   size_t size = 1 << 22) {
    return ReadIno(Ino(path), offset, size);
  }
  absl::StatusOr<std::string> ReadIno(uint64_t ino, int64_t offset = 0, size_t size = 1 << 22) {
    std::string bytes(size, '?');
    PBKFS_ASSIGN_OR_RETURN(
        const size_t count,
        overlay_->Read(ino, offset,
                       absl::MakeSpan(reinterpret_cast<uint8_t*>(bytes.data()), size)));
    bytes.resize(count);
    return bytes;
  }
  absl::Status Write(const std::string& path, int64_t offset, const std::string& bytes) {
    return overlay_->Write(Ino(path), offset, Bytes(bytes));
  }
  absl::Status Create(const std::string& path, uint32_t mode = S_IFREG | 0600) {
    const auto [parent, name] = Split(path);
    NewNode node;
    node.mode = mode;
    return overlay_->Create(parent, name, node, RequestId{}).status();
  }
  absl::Status Mkdir(const std::string& path) { return Create(path, S_IFDIR | 0700); }
  absl::Status Unlink(const std::string& path) {
    const auto [parent, name] = Split(path);
    return overlay_->Unlink(parent, name, RequestId{});
  }
  absl::Status Rmdir(const std::string& path) {
    const auto [parent, name] = Split(path);
    return overlay_->RemoveDirectory(parent, name, RequestId{});
  }
  absl::Status Rename(const std::string& from, const std::string& to, unsigned flags = 0) {
    const auto [parent, name] = Split(from);
    const auto [new_parent, new_name] = Split(to);
    return overlay_->Rename(parent, name, new_parent, new_name, flags, RequestId{});
  }
  absl::Status Link(const std::string& from, const std::string& to) {
    const auto [parent, name] = Split(to);
    return overlay_->Link(Ino(from), parent, name, RequestId{}).status();
  }
  absl::Status Truncate(const std::string& path, int64_t size) {
    AttributeChange change;
    change.size = size;
    return overlay_->SetAttributes(Ino(path), change).status();
  }
  int64_t Size(const std::string& path) {
    const auto attributes = overlay_->GetAttributes(Ino(path));
    return attributes.ok() ? attributes->size : -1;
  }

 private:
  TemporaryDirectory directory_;
  FaultIo io_;
  std::shared_ptr<MemoryTree> lower_;
  std::unique_ptr<Overlay> overlay_;
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_FS_OVERLAY_OVERLAY_FIXTURE_H_
