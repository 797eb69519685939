#include "fs/catalog/wal_tree.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <cerrno>
#include <deque>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "fs/base/mutex.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

constexpr uint32_t kDirectoryMode = S_IFDIR | 0700;
// cp hands the mode on to the server's own file, which the server writes to after a promotion.
constexpr uint32_t kFileMode = S_IFREG | 0600;

class WalTree final : public LowerTree {
 public:
  WalTree(std::shared_ptr<const LowerTree> beside, std::shared_ptr<const WalArchive> archive,
          absl::Time time)
      : beside_(std::move(beside)),
        archive_(std::move(archive)),
        time_(time),
        wal_ino_((beside_ == nullptr ? kRootIno : beside_->NodeCount()) + 1),
        first_file_(wal_ino_ + 1 +
                    (static_cast<LowerIno>(absl::Uniform<uint32_t>(random_)) << 20)) {
    if (beside_ != nullptr) {
      const absl::Span<const LowerIno> children = beside_->Children(kRootIno);
      root_children_.assign(children.begin(), children.end());
    }
    root_children_.push_back(wal_ino_);
  }

  uint64_t NodeCount() const override {
    MutexLock lock(&mutex_);
    return first_file_ + files_.size() - 1;
  }
  std::optional<LowerNode> Node(LowerIno ino) const override;
  std::optional<LowerNode> Lookup(LowerIno directory, absl::string_view name) const override;
  absl::Span<const LowerIno> Children(LowerIno directory) const override;
  absl::StatusOr<std::shared_ptr<const LowerFile>> Open(LowerIno ino) const override;
  absl::StatusOr<std::string> ReadLink(LowerIno ino) const override;
  absl::Time Time() const override { return time_; }
  std::string ListHash() const override { return ""; }  // No diff is bound to it.

 private:
  // What a name stood for when it was last looked up.
  struct File {
    std::string name;
    absl::StatusOr<ArchivedFile> found;
  };

  static LowerNode Directory(LowerIno ino, absl::string_view name) {
    LowerNode node;
    node.ino = ino;
    node.parent = kRootIno;
    node.name = name;
    node.mode = kDirectoryMode;
    return node;
  }
  LowerNode NodeOf(LowerIno ino, const File& file) const {
    LowerNode node;
    node.ino = ino;
    node.parent = wal_ino_;
    node.name = file.name;
    node.mode = kFileMode;
    node.size = file.found.ok() ? file.found->size : 0;
    return node;
  }
  bool IsBeside(LowerIno ino) const { return beside_ != nullptr && ino < wal_ino_; }
  // Null where there is no such file.
  const File* Find(LowerIno ino) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ino >= first_file_ && ino - first_file_ < files_.size() ? &files_[ino - first_file_]
                                                                   : nullptr;
  }
  absl::StatusOr<std::shared_ptr<const LowerFile>> OpenArchived(LowerIno ino) const;
  LowerNode Remember(absl::string_view name, absl::StatusOr<ArchivedFile> found) const;

  const std::shared_ptr<const LowerTree> beside_;
  const std::shared_ptr<const WalArchive> archive_;
  const absl::Time time_;
  const LowerIno wal_ino_;
  absl::BitGen random_;
  // The kernel keeps numbers beyond the life of a process, in which they are given away anew: they
  // begin somewhere else in each, so that an old one is unknown and never another file's.
  const LowerIno first_file_;
  std::vector<LowerIno> root_children_;

  mutable Mutex mutex_;
  mutable std::deque<File> files_ ABSL_GUARDED_BY(mutex_);  // [i] has number first_file_ + i.
  mutable absl::flat_hash_map<std::string, LowerIno> numbers_ ABSL_GUARDED_BY(mutex_);
};

std::optional<LowerNode> WalTree::Node(LowerIno ino) const {
  if (ino == wal_ino_) return Directory(wal_ino_, kWalDirectory);
  if (IsBeside(ino)) return beside_->Node(ino);
  if (ino == kRootIno) return Directory(kRootIno, "");
  MutexLock lock(&mutex_);
  const File* file = Find(ino);
  if (file == nullptr) return std::nullopt;
  return NodeOf(ino, *file);
}

std::optional<LowerNode> WalTree::Lookup(LowerIno directory, absl::string_view name) const {
  if (directory == kRootIno && name == kWalDirectory) return Node(wal_ino_);
  if (IsBeside(directory)) return beside_->Lookup(directory, name);
  if (directory != wal_ino_ || archive_ == nullptr) return std::nullopt;
  absl::StatusOr<ArchivedFile> found = archive_->Find(name);
  if (absl::IsNotFound(found.status())) return std::nullopt;
  return Remember(name, std::move(found));
}

LowerNode WalTree::Remember(absl::string_view name, absl::StatusOr<ArchivedFile> found) const {
  MutexLock lock(&mutex_);
  const auto known = numbers_.find(name);
  if (known != numbers_.end()) {
    File& file = files_[known->second - first_file_];
    const bool same = found.ok() && file.found.ok() &&
                      found->stored_name == file.found->stored_name &&
                      found->identity == file.found->identity;
    if (same || !file.found.ok()) {
      file.found = std::move(found);
      return NodeOf(known->second, file);
    }
  }
  if (files_.size() >= kMaxWalNodes && found.ok()) {
    found = absl::ResourceExhaustedError("too many segments were read; mount again");
  }
  // The last number is that of all for which there was no room.
  if (files_.size() > kMaxWalNodes) return NodeOf(first_file_ + files_.size() - 1, files_.back());
  files_.push_back({std::string(name), std::move(found)});
  const LowerIno ino = first_file_ + files_.size() - 1;
  numbers_[name] = ino;
  return NodeOf(ino, files_.back());
}

absl::Span<const LowerIno> WalTree::Children(LowerIno directory) const {
  if (directory == kRootIno) return root_children_;
  if (IsBeside(directory)) return beside_->Children(directory);
  return {};
}

absl::StatusOr<std::shared_ptr<const LowerFile>> WalTree::Open(LowerIno ino) const {
  if (IsBeside(ino)) return beside_->Open(ino);
  if (ino == kRootIno || ino == wal_ino_) return ErrnoError(EISDIR, kWalDirectory);
  absl::StatusOr<std::shared_ptr<const LowerFile>> opened = OpenArchived(ino);
  if (opened.ok()) return opened;
  spdlog::error("archived WAL: {}", std::string(opened.status().message()));
  // Its name was found: that it went away since is no "there is none".
  if (absl::IsNotFound(opened.status())) return ErrnoError(ESTALE, opened.status().message());
  return opened;
}

absl::StatusOr<std::shared_ptr<const LowerFile>> WalTree::OpenArchived(LowerIno ino) const {
  absl::StatusOr<ArchivedFile> found = absl::NotFoundError(absl::StrCat("inode ", ino));
  {
    MutexLock lock(&mutex_);
    if (const File* file = Find(ino); file != nullptr) found = file->found;
  }
  if (!found.ok()) return found.status();
  return archive_->Open(*found);
}

absl::StatusOr<std::string> WalTree::ReadLink(LowerIno ino) const {
  if (IsBeside(ino)) return beside_->ReadLink(ino);
  return ErrnoError(EINVAL, absl::StrCat("inode ", ino));
}

}  // namespace

std::shared_ptr<const LowerTree> MakeWalTree(std::shared_ptr<const LowerTree> beside,
                                             std::shared_ptr<const WalArchive> archive,
                                             absl::Time time) {
  return std::make_shared<WalTree>(std::move(beside), std::move(archive), time);
}

}  // namespace pbkfs
