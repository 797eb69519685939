#include "tests/support/sim_io.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_split.h"
#include "fs/base/status.h"

namespace pbkfs::testsupport {

class SimFile : public IoFile {
 public:
  SimFile(SimIo& io, SimIo::NodePtr node) : io_(io), node_(std::move(node)) {}
  ~SimFile() override {
    MutexLock lock(&io_.mutex_);
    if (holds_lock_) node_->file.locked = false;
  }

  absl::StatusOr<size_t> Read(int64_t offset, absl::Span<uint8_t> out) override {
    MutexLock lock(&io_.mutex_);
    if (io_.dead_) return ErrnoError(EIO, "dead");
    const std::string& bytes = node_->file.bytes;
    if (offset >= static_cast<int64_t>(bytes.size())) return 0;
    const size_t count = std::min(out.size(), bytes.size() - static_cast<size_t>(offset));
    memcpy(out.data(), bytes.data() + offset, count);
    return count;
  }

  absl::Status Write(int64_t offset, absl::Span<const uint8_t> data) override {
    SimIo::Change change{SimIo::Change::kWrite, offset,
                         std::string(reinterpret_cast<const char*>(data.data()), data.size()), 0};
    return Do(std::move(change));
  }
  absl::Status Truncate(int64_t size) override {
    return Do({SimIo::Change::kTruncate, size, "", 0});
  }
  absl::Status Allocate(int mode, int64_t offset, int64_t length) override {
    if ((mode & FALLOC_FL_PUNCH_HOLE) != 0) {
      return Do({SimIo::Change::kPunch, offset, "", length});
    }
    if ((mode & FALLOC_FL_KEEP_SIZE) != 0) return absl::OkStatus();
    int64_t size;
    {
      MutexLock lock(&io_.mutex_);
      size = static_cast<int64_t>(node_->file.bytes.size());
    }
    return offset + length > size ? Truncate(offset + length) : absl::OkStatus();
  }

  absl::Status DataSync() override {
    MutexLock lock(&io_.mutex_);
    bool partial = false;
    PBKFS_RETURN_IF_ERROR(io_.Begin(&partial));
    // A process that dies in fdatasync never learns the result; the disk may have everything.
    if (partial && io_.random_() % 2 == 0) return ErrnoError(EIO, "dead");
    SimIo::File& file = node_->file;
    if (io_.TakeFailure(*node_)) {
      file.durable = io_.Survivors(file, /*crashed=*/false);
      file.changes.clear();
      file.sync_failed = true;
      io_.unreported_error_ = true;
      return ErrnoError(EIO, "a sync that fails");
    }
    // Not a copy of the bytes: what a failed sync threw away stays away.
    for (const SimIo::Change& change : file.changes) SimIo::Apply(change, &file.durable);
    file.changes.clear();
    return partial ? ErrnoError(EIO, "dead") : absl::OkStatus();
  }
  void StartWriteback(int64_t, int64_t) override {}

  absl::StatusOr<struct stat> Stat() override {
    MutexLock lock(&io_.mutex_);
    if (io_.dead_) return ErrnoError(EIO, "dead");
    struct stat result = {};
    result.st_mode = S_IFREG | 0600;
    result.st_nlink = 1;
    result.st_ino = node_->number;
    result.st_size = static_cast<off_t>(node_->file.bytes.size());
    result.st_blocks = (result.st_size + 511) / 512;
    return result;
  }
  absl::Status SetTimes(const struct timespec*) override { return absl::OkStatus(); }
  absl::StatusOr<int64_t> Seek(int64_t offset, int whence) override {
    MutexLock lock(&io_.mutex_);
    const auto size = static_cast<int64_t>(node_->file.bytes.size());
    if (offset >= size) return -1;
    return whence == SEEK_DATA ? offset : size;  // No holes.
  }
  absl::StatusOr<bool> TryLock() override {
    MutexLock lock(&io_.mutex_);
    if (std::exchange(node_->file.locked, true)) return false;
    holds_lock_ = true;
    return true;
  }

 private:
  absl::Status Do(SimIo::Change change) {
    MutexLock lock(&io_.mutex_);
    bool partial = false;
    PBKFS_RETURN_IF_ERROR(io_.Begin(&partial));
    if (partial) {
      if (change.kind == SimIo::Change::kWrite) {
        change.bytes.resize(io_.random_() % (change.bytes.size() + 1));
      }
      if (io_.random_() % 3 == 0) return ErrnoError(EIO, "dead");
    }
    SimIo::Apply(change, &node_->file.bytes);
    node_->file.changes.push_back(std::move(change));
    return partial ? ErrnoError(EIO, "dead") : absl::OkStatus();
  }

  SimIo& io_;
  const SimIo::NodePtr node_;
  bool holds_lock_ = false;
};

class SimDir : public IoDir {
 public:
  SimDir(SimIo& io, SimIo::NodePtr node) : io_(io), node_(std::move(node)) {}

  absl::StatusOr<std::unique_ptr<IoFile>> OpenFile(absl::string_view name, int flags,
                                                   mode_t) override {
    MutexLock lock(&io_.mutex_);
    if (io_.dead_) return ErrnoError(EIO, "dead");
    const auto found = node_->entries.find(std::string(name));
    if (found != node_->entries.end()) {
      if ((flags & O_EXCL) != 0) return ErrnoError(EEXIST, name);
      if ((flags & O_TRUNC) != 0 && !found->second->file.bytes.empty()) {
        SimIo::Change change{SimIo::Change::kTruncate, 0, "", 0};
        SimIo::Apply(change, &found->second->file.bytes);
        found->second->file.changes.push_back(std::move(change));
      }
      return std::make_unique<SimFile>(io_, found->second);
    }
    if ((flags & O_CREAT) == 0) return ErrnoError(ENOENT, name);
    bool partial = false;
    PBKFS_RETURN_IF_ERROR(io_.Begin(&partial));
    auto node = std::make_shared<SimIo::Node>();
    node->number = io_.next_number_++;
    node->name = std::string(name);
    node->in_memory = node_->in_memory;
    io_.SetEntry(*node_, std::string(name), node);
    if (partial) return ErrnoError(EIO, "dead");
    return std::make_unique<SimFile>(io_, node);
  }

  absl::StatusOr<std::unique_ptr<IoDir>> OpenDir(absl::string_view name) override {
    MutexLock lock(&io_.mutex_);
    if (io_.dead_) return ErrnoError(EIO, "dead");
    if (name == ".") return std::make_unique<SimDir>(io_, node_);
    const auto found = node_->entries.find(std::string(name));
    if (found == node_->entries.end()) return ErrnoError(ENOENT, name);
    return std::make_unique<SimDir>(io_, found->second);
  }

  absl::Status MakeDir(absl::string_view name, mode_t) override {
    MutexLock lock(&io_.mutex_);
    if (io_.dead_) return ErrnoError(EIO, "dead");
    if (node_->entries.contains(std::string(name))) return ErrnoError(EEXIST, name);
    bool partial = false;
    PBKFS_RETURN_IF_ERROR(io_.Begin(&partial));
    auto node = std::make_shared<SimIo::Node>();
    node->number = io_.next_number_++;
    node->name = std::string(name);
    node->is_directory = true;
    node->in_memory = node_->in_memory;
    io_.SetEntry(*node_, std::string(name), node);
    return partial ? ErrnoError(EIO, "dead") : absl::OkStatus();
  }

  absl::Status Remove(absl::string_view name) override {
    MutexLock lock(&io_.mutex_);
    if (io_.dead_) return ErrnoError(EIO, "dead");
    if (!node_->entries.contains(std::string(name))) return ErrnoError(ENOENT, name);
    bool partial = false;
    PBKFS_RETURN_IF_ERROR(io_.Begin(&partial));
    io_.SetEntry(*node_, std::string(name), nullptr);
    return partial ? ErrnoError(EIO, "dead") : absl::OkStatus();
  }

  absl::Status Rename(absl::string_view name, IoDir& new_directory,
                      absl::string_view new_name) override {
    MutexLock lock(&io_.mutex_);
    bool partial = false;
    PBKFS_RETURN_IF_ERROR(io_.Begin(&partial));
    const auto found = node_->entries.find(std::string(name));
    if (found == node_->entries.end()) return ErrnoError(ENOENT, name);
    const SimIo::NodePtr node = found->second;
    node->name = std::string(new_name);
    io_.SetEntry(*static_cast<SimDir&>(new_directory).node_, std::string(new_name), node);
    io_.SetEntry(*node_, std::string(name), nullptr);
    return partial ? ErrnoError(EIO, "dead") : absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List() override {
    MutexLock lock(&io_.mutex_);
    if (io_.dead_) return ErrnoError(EIO, "dead");
    std::vector<std::string> names;
    for (const auto& [name, node] : node_->entries) names.push_back(name);
    return names;
  }
  absl::StatusOr<struct stat> Stat() override {
    struct stat result = {};
    result.st_ino = node_->number;
    return result;
  }
  absl::StatusOr<DirIdentity> Identity() override {
    MutexLock lock(&io_.mutex_);
    DirIdentity identity;
    identity.mount_id = io_.boot_;
    identity.device = 1;
    identity.inode = node_->number;
    identity.in_memory = node_->in_memory;
    return identity;
  }
  absl::StatusOr<struct statvfs> FileSystem() override {
    struct statvfs result = {};
    result.f_frsize = result.f_bsize = 4096;
    result.f_bavail = 1 << 20;
    return result;
  }

  absl::Status Sync() override {
    MutexLock lock(&io_.mutex_);
    bool partial = false;
    PBKFS_RETURN_IF_ERROR(io_.Begin(&partial));
    if (partial && io_.random_() % 2 == 0) return ErrnoError(EIO, "dead");
    if (io_.TakeFailure(*node_)) return ErrnoError(EIO, "a sync that fails");
    node_->unsynced.clear();
    return partial ? ErrnoError(EIO, "dead") : absl::OkStatus();
  }
  // Everything in the page cache reaches the disk. A write-out that failed before is told once.
  absl::Status SyncFileSystem() override {
    MutexLock lock(&io_.mutex_);
    bool partial = false;
    PBKFS_RETURN_IF_ERROR(io_.Begin(&partial));
    if (partial) return ErrnoError(EIO, "dead");
    SyncTree(*node_);
    if (std::exchange(io_.unreported_error_, false)) return ErrnoError(EIO, "an earlier write-out");
    return absl::OkStatus();
  }

 private:
  void SyncTree(SimIo::Node& node) {
    for (const SimIo::Change& change : node.file.changes) {
      SimIo::Apply(change, &node.file.durable);
    }
    node.file.changes.clear();
    node.unsynced.clear();
    for (auto& [name, child] : node.entries) SyncTree(*child);
  }

  SimIo& io_;
  const SimIo::NodePtr node_;
};

void SimIo::Apply(const Change& change, std::string* bytes) {
  const auto offset = static_cast<size_t>(change.offset);
  switch (change.kind) {
    case Change::kWrite:
      if (change.bytes.empty()) return;
      if (bytes->size() < offset + change.bytes.size()) {
        bytes->resize(offset + change.bytes.size(), '\0');
      }
      bytes->replace(offset, change.bytes.size(), change.bytes);
      return;
    case Change::kTruncate:
      bytes->resize(offset, '\0');
      return;
    case Change::kExtend:
      if (bytes->size() < offset) bytes->resize(offset, '\0');
      return;
    case Change::kPunch:
      for (size_t i = offset;
           i < std::min(bytes->size(), offset + static_cast<size_t>(change.length)); ++i) {
        (*bytes)[i] = '\0';
      }
      return;
  }
}

absl::Status SimIo::Begin(bool* partial) {
  if (dead_) return ErrnoError(EIO, "dead");
  *partial = ++operations_ >= die_at_;
  if (*partial) dead_ = true;
  return absl::OkStatus();
}

void SimIo::SetEntry(Node& directory, const std::string& name, NodePtr node) {
  const auto found = directory.entries.find(name);
  const NodePtr before = found == directory.entries.end() ? nullptr : found->second;
  std::vector<NodePtr>& values = directory.unsynced[name];
  if (values.empty()) values.push_back(before);
  values.push_back(node);
  if (node == nullptr) {
    directory.entries.erase(name);
  } else {
    directory.entries[name] = std::move(node);
  }
}

void SimIo::DieAfter(uint64_t operations) {
  MutexLock lock(&mutex_);
  die_at_ = operations_ + operations;
}

bool SimIo::dead() const {
  MutexLock lock(&mutex_);
  return dead_;
}

uint64_t SimIo::operations() const {
  MutexLock lock(&mutex_);
  return operations_;
}

void SimIo::Revive() {
  MutexLock lock(&mutex_);
  dead_ = false;
  die_at_ = UINT64_MAX;
  if (root_ != nullptr) DropCleanPages(*root_);
}

void SimIo::LoseEvidence() {
  MutexLock lock(&mutex_);
  root_->entries.erase("run");
}

void SimIo::FailNextSync(const std::string& name) {
  MutexLock lock(&mutex_);
  failing_sync_ = name;
}

bool SimIo::TakeFailure(const Node& node) {
  if (failing_sync_.empty() || node.name != failing_sync_) return false;
  failing_sync_.clear();
  return true;
}

// Pages whose write-out failed count as clean; the kernel may read them again from the disk.
void SimIo::DropCleanPages(Node& node) {
  constexpr size_t kPage = 4096;
  File& file = node.file;
  if (file.sync_failed) {
    std::string disk = file.durable;
    disk.resize(file.bytes.size(), '\0');
    for (size_t at = 0; at < disk.size(); at += kPage) {
      if (random_() % 2 == 0) file.bytes.replace(at, kPage, disk, at, kPage);
    }
    for (const Change& change : file.changes) Apply(change, &file.bytes);
  }
  for (auto& [name, child] : node.entries) DropCleanPages(*child);
}

std::string SimIo::Survivors(const File& file, bool crashed) {
  constexpr size_t kSector = 512;
  constexpr int64_t kPage = 4096;
  std::vector<Change> pieces;
  // A write-out that fails loses bytes. What the journal keeps, sizes and holes, only a crash
  // loses.
  const auto keep = [this, &pieces, crashed](Change piece) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    const bool certain = !crashed && piece.kind != Change::kWrite;
    if (certain || random_() % 2 == 0) pieces.push_back(std::move(piece));
  };
  for (const Change& change : file.changes) {
    if (change.kind == Change::kPunch) {
      for (int64_t at = 0; at < change.length;) {
        const int64_t offset = change.offset + at;
        const int64_t size = std::min(kPage - offset % kPage, change.length - at);
        keep({Change::kPunch, offset, "", size});
        at += size;
      }
      continue;
    }
    if (change.kind != Change::kWrite) {
      keep(change);
      continue;
    }
    for (size_t at = 0; at < change.bytes.size();) {
      const size_t sector_end =
          ((static_cast<size_t>(change.offset) + at) / kSector + 1) * kSector -
          static_cast<size_t>(change.offset);
      const size_t size = std::min(sector_end, change.bytes.size()) - at;
      keep({Change::kWrite, change.offset + static_cast<int64_t>(at), change.bytes.substr(at, size),
            0});
      at += size;
    }
    keep({Change::kExtend, change.offset + static_cast<int64_t>(change.bytes.size()), "", 0});
  }
  if (crashed && random_() % 2 == 0) std::shuffle(pieces.begin(), pieces.end(), random_);
  std::string survived = file.durable;
  for (const Change& piece : pieces) Apply(piece, &survived);
  return survived;
}

void SimIo::CrashDirectory(Node& directory) {
  for (const auto& [name, values] : directory.unsynced) {
    const NodePtr survivor = values[random_() % values.size()];
    if (survivor == nullptr) {
      directory.entries.erase(name);
    } else {
      directory.entries[name] = survivor;
    }
  }
  directory.unsynced.clear();
  for (auto& [name, child] : directory.entries) {
    if (child->is_directory) {
      CrashDirectory(*child);
    } else {
      File& file = child->file;
      file.bytes = file.durable = Survivors(file, /*crashed=*/true);
      file.changes.clear();
      file.sync_failed = false;
      file.locked = false;
    }
  }
}

void SimIo::Crash() {
  MutexLock lock(&mutex_);
  dead_ = false;
  die_at_ = UINT64_MAX;
  ++boot_;
  unreported_error_ = false;
  if (root_ == nullptr) return;
  root_->entries.erase("run");
  CrashDirectory(*root_);
}

SimIo::NodePtr SimIo::Walk(const std::string& path) {
  if (root_ == nullptr) {
    root_ = std::make_shared<Node>();
    root_->is_directory = true;
  }
  NodePtr node = root_;
  for (const absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    const auto found = node->entries.find(std::string(part));
    if (found == node->entries.end()) {
      // The places that a machine always has.
      if (part != "run" || node != root_) return nullptr;
      auto run = std::make_shared<Node>();
      run->is_directory = run->in_memory = true;
      run->number = next_number_++;
      root_->entries["run"] = run;
      node = run;
      continue;
    }
    node = found->second;
  }
  return node;
}

absl::StatusOr<std::unique_ptr<IoDir>> SimIo::OpenDir(const std::string& path) {
  MutexLock lock(&mutex_);
  if (dead_) return ErrnoError(EIO, "dead");
  const NodePtr node = Walk(path);
  if (node == nullptr) return ErrnoError(ENOENT, path);
  return std::make_unique<SimDir>(*this, node);
}

absl::Status SimIo::MakeDir(const std::string& path, mode_t mode) {
  const size_t slash = path.rfind('/');
  PBKFS_ASSIGN_OR_RETURN(const auto parent, OpenDir(path.substr(0, slash)));
  return parent->MakeDir(path.substr(slash + 1), mode);
}

}  // namespace pbkfs::testsupport
