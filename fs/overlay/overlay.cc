#include "fs/overlay/overlay.h"

#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "fs/base/status.h"
#include "fs/diff/page_cache_evidence.h"
#include "spdlog/spdlog.h"

namespace pbkfs {

int64_t NowNanos() { return absl::GetCurrentTimeNanos(); }

Overlay::Overlay(std::shared_ptr<const LowerTree> lower, std::unique_ptr<DiffStore> diff,
                 const OverlayOptions& options)
    : lower_(std::move(lower)),
      diff_(std::move(diff)),
      options_(options),
      session_nonce_(options.takeover.has_value() ? options.takeover->session_nonce
                     : options.session_nonce != 0 ? options.session_nonce
                                                  : RandomNonce()),
      side_(options.side_tree, diff_->owner_uid(), diff_->owner_gid()),
      space_(options.diff_limit_bytes),
      pending_(options.pending_counters) {}

absl::StatusOr<std::unique_ptr<Overlay>> Overlay::Create(std::shared_ptr<const LowerTree> lower,
                                                         std::unique_ptr<DiffStore> diff,
                                                         const OverlayOptions& options) {
  auto overlay = std::unique_ptr<Overlay>(new Overlay(std::move(lower), std::move(diff), options));
  const std::optional<Takeover>& takeover = options.takeover;
  absl::StatusOr<DiffState> recovered =
      takeover.has_value()
          ? overlay->diff_->Resume(*overlay->lower_, overlay->session_nonce_,
                                   {takeover->open_inodes.begin(), takeover->open_inodes.end()})
          : overlay->diff_->Recover(*overlay->lower_, overlay->session_nonce_);
  PBKFS_RETURN_IF_ERROR(recovered.status());
  DiffState state = *std::move(recovered);
  for (auto& [ino, inode_state] : state.inodes) {
    const bool has_data = inode_state->layout.has_data;
    auto inode = std::make_shared<Inode>(std::move(*inode_state), /*in_diff=*/true);
    {
      MutexLock lock(&inode->mutex);
      inode->data_entry_synced = has_data && !takeover.has_value();
    }
    overlay->inodes_.Insert(inode);
    if (has_data && overlay->space_.limited()) {
      overlay->SettleSpace(*inode, 0);
      MutexLock lock(&inode->mutex);
      overlay->DropIdleFiles(*inode);
    }
    // What a process that died had written was not synced by an fdatasync of its file.
    if (has_data && overlay->diff_->shutdown_kind() == ShutdownKind::kProcessDied) {
      overlay->ListDirty(inode);
    }
  }
  {
    WriterLock lock(&overlay->namespace_mutex_);
    overlay->names_ = std::move(state.names);
    overlay->next_ino_ = state.next_ino;
  }
  overlay->answers_.Load(std::move(state.answers));
  {
    MutexLock lock(&overlay->dirty_mutex_);
    const uint64_t last = overlay->diff_->log().last_sequence();
    for (const uint64_t ino : state.doomed) overlay->doomed_.push_back({last, ino});
  }
  if (takeover.has_value()) overlay->GoOn(*takeover);
  overlay->background_ = std::thread([raw = overlay.get()] { raw->RunBackground(); });
  return overlay;
}

// Orphans that nobody had open were let go of with the process that died; the kernel may still know
// them, by a descriptor of O_PATH or as a working directory.
void Overlay::MarkGone(uint64_t ino) {
  if (inodes_.Find(ino) != nullptr) return;  // It has another name, or is open.
  inodes_.MarkGone(ino);
  for (const LowerIno child : lower_->Children(ino)) MarkGone(child);
}

void Overlay::GoOn(const Takeover& takeover) {
  {
    ReaderLock lock(&namespace_mutex_);
    names_.VisitHidden([this](uint64_t parent, absl::string_view name) {
      if (const auto node = lower_->Lookup(parent, name)) MarkGone(node->ino);
    });
  }
  for (const uint64_t ino : takeover.open_inodes) {
    if (const absl::Status opened = Open(ino); !opened.ok()) {
      spdlog::warn("diff {}: a file that is open is gone: {}", diff_->path(), opened.ToString());
    }
  }
  // The files of the process that died are closed.
  const IoSnapshot figures = stats().Snapshot();
  stats().Add(IoCounter::kHandlesClosed,
              figures[IoCounter::kHandlesOpened] - figures[IoCounter::kHandlesClosed]);
  gate_ = std::make_unique<TakeoverGate>(takeover.witness, takeover.sync_failed, [this] {
    options_.sync_failed();
    // The next mount must not believe what was not synced.
    diff_->DistrustPageCache();
  });
}

Overlay::~Overlay() {
  idle_work_.Stop();
  StopBackground();
}

absl::StatusOr<Overlay::InodePtr> Overlay::GetInode(uint64_t ino) {
  if (InodePtr inode = inodes_.Find(ino)) return inode;
  const bool known = ino < kFirstNewIno && !inodes_.IsGone(ino);
  const auto node = known ? lower_->Node(ino) : std::nullopt;
  if (!node.has_value()) return ErrnoError(ENOENT, absl::StrCat("inode ", ino));
  return inodes_.Insert(std::make_shared<Inode>(
      InodeState::OfLower(*lower_, *node, diff_->owner_uid(), diff_->owner_gid()),
      /*in_diff=*/false));
}

absl::StatusOr<Overlay::InodePtr> Overlay::GetDirectory(uint64_t ino) {
  PBKFS_ASSIGN_OR_RETURN(InodePtr inode, GetInode(ino));
  MutexLock lock(&inode->mutex);
  if (!inode->state.IsDirectory()) return ErrnoError(ENOTDIR, absl::StrCat("inode ", ino));
  return inode;
}

absl::StatusOr<Overlay::InodePtr> Overlay::GetRegular(uint64_t ino) {
  PBKFS_ASSIGN_OR_RETURN(InodePtr inode, GetInode(ino));
  MutexLock lock(&inode->mutex);
  if (inode->state.IsDirectory()) return ErrnoError(EISDIR, absl::StrCat("inode ", ino));
  if (!inode->state.IsRegular()) return ErrnoError(EINVAL, absl::StrCat("inode ", ino));
  return inode;
}

Attributes Overlay::FillAttributes(const Inode& inode) {
  const InodeState& state = inode.state;
  Attributes attributes;
  attributes.ino = state.ino;
  attributes.mode = state.mode;
  attributes.nlink = state.nlink;
  attributes.uid = state.uid;
  attributes.gid = state.gid;
  attributes.rdev = state.rdev;
  attributes.size =
      state.symlink.empty() ? state.layout.size : static_cast<int64_t>(state.symlink.size());
  attributes.atime = state.atime;
  attributes.mtime = state.mtime;
  attributes.ctime = state.ctime;
  return attributes;
}

Attributes Overlay::AttributesOf(Inode& inode) {
  MutexLock lock(&inode.mutex);
  return FillAttributes(inode);
}

uint32_t Overlay::ModeOf(uint64_t ino) const {
  if (const InodePtr inode = inodes_.Find(ino)) {
    MutexLock lock(&inode->mutex);
    return inode->state.mode;
  }
  const auto node = ino < kFirstNewIno ? lower_->Node(ino) : std::nullopt;
  return node.has_value() ? node->mode : 0;
}

absl::Status Overlay::CheckWritable() const {
  if (options_.read_only) return ErrnoError(EROFS, "the mount is read-only");
  return absl::OkStatus();
}

void Overlay::TouchChildren(Inode& directory, uint64_t sequence, int64_t time) {
  MutexLock lock(&directory.mutex);
  directory.state.ChildrenChanged(sequence, time);
  directory.changed = true;
}

absl::StatusOr<Attributes> Overlay::GetAttributes(uint64_t ino) {
  if (IsSideIno(ino)) return side_.GetAttributes(ino);
  PBKFS_ASSIGN_OR_RETURN(const InodePtr inode, GetInode(ino));
  Ticket ticket = pending_.Draw(inode->pending, PendingRole::kSizeReader, {});
  ticket.Wait();
  return AttributesOf(*inode);
}

absl::StatusOr<Attributes> Overlay::SetAttributes(uint64_t ino, const AttributeChange& change) {
  if (IsSideIno(ino)) return ErrnoError(EROFS, kSideName);
  PBKFS_RETURN_IF_ERROR(CheckWritable());
  PBKFS_ASSIGN_OR_RETURN(const InodePtr inode, GetInode(ino));
  if (change.size.has_value()) {
    PBKFS_RETURN_IF_ERROR(GetRegular(ino).status());
    PBKFS_RETURN_IF_ERROR(Resize(inode, *change.size));
  }
  SetAttrRecord record;
  record.ino = ino;
  record.time = NowNanos();
  const auto take = [&record](const auto& value, uint32_t bit, auto* field) {
    if (!value.has_value()) return;
    record.mask |= bit;
    *field = *value;
  };
  take(change.mode, SetAttrRecord::kMode, &record.mode);
  take(change.uid, SetAttrRecord::kUid, &record.uid);
  take(change.gid, SetAttrRecord::kGid, &record.gid);
  take(change.atime, SetAttrRecord::kAtime, &record.atime);
  take(change.mtime, SetAttrRecord::kMtime, &record.mtime);
  if (record.mask == 0) return AttributesOf(*inode);

  MutexLock lock(&inode->mutex);
  std::shared_ptr<IoFile> data;
  if (change.mtime.has_value()) {
    // The data file carries the time stamp of its bytes: recovery takes the later of both.
    PBKFS_ASSIGN_OR_RETURN(data, DataFileLocked(*inode));
  }
  PBKFS_ASSIGN_OR_RETURN(const uint64_t sequence, diff_->log().Append(record));
  inode->state.Apply(record, sequence);
  inode->changed = true;
  if (data != nullptr) {
    KeepTime(*inode, *data);
    DropIdleFiles(*inode);
  }
  return FillAttributes(*inode);
}

absl::Status Overlay::Open(uint64_t ino) {
  if (IsSideIno(ino)) return side_.Open(ino);
  PBKFS_ASSIGN_OR_RETURN(const InodePtr inode, GetInode(ino));
  MutexLock lock(&inode->mutex);
  ++inode->open_handles;
  return absl::OkStatus();
}

void Overlay::Release(uint64_t ino) {
  if (IsSideIno(ino)) return side_.Release(ino);
  const InodePtr inode = inodes_.Find(ino);
  if (inode == nullptr) return;
  MutexLock lock(&inode->mutex);
  if (inode->open_handles > 0) --inode->open_handles;
  DropIdleFiles(*inode);
}

// The log does not say when each write was: that is left to the data file, whose own stamp the
// kernel took a moment after ours, of a clock with longer ticks.
void Overlay::KeepTime(const Inode& inode, IoFile& data) {
  const absl::StatusOr<struct stat> found = data.Stat();
  if (!found.ok() ||
      absl::TimeFromTimespec(found->st_mtim) == absl::FromUnixNanos(inode.state.mtime))
    return;
  const struct timespec times[2] = {{0, UTIME_OMIT},
                                    absl::ToTimespec(absl::FromUnixNanos(inode.state.mtime))};
  data.SetTimes(times).IgnoreError();
}

void Overlay::DropData(Inode& inode) {
  if (inode.data == nullptr) return;
  stats().Add(IoCounter::kHandlesClosed);
  if (inode.state.nlink > 0) KeepTime(inode, *inode.data);
  inode.data.reset();
}

void Overlay::DropIdleFiles(Inode& inode) {
  if (inode.open_handles > 0 || inode.DataDirty()) return;
  DropData(inode);
  if (inode.lower != nullptr) stats().Add(IoCounter::kHandlesClosed);
  inode.lower.reset();
}

absl::StatusOr<DiffFigures> Overlay::diff() const {
  DiffFigures figures;
  PBKFS_ASSIGN_OR_RETURN(figures.diff_bytes, diff_->AllocatedBytes());
  PBKFS_ASSIGN_OR_RETURN(const struct statvfs file_system, diff_->FileSystem());
  figures.fs_free_bytes = static_cast<int64_t>(file_system.f_bavail * file_system.f_frsize);
  figures.metalog_bytes = diff_->log().bytes();
  return figures;
}

absl::Status Overlay::Close() {
  if (closed_) return absl::OkStatus();
  closed_ = true;
  idle_work_.Stop();
  StopBackground();
  absl::Status result;
  for (const InodePtr& inode : inodes_.All()) {
    Ticket ticket = pending_.Draw(inode->pending, PendingRole::kBarrier, {});
    ticket.Wait();
    if (AttributesOf(*inode).nlink == 0) {
      Reap(inode);
      continue;
    }
    absl::Status synced = SyncInode(*inode);
    if (synced.ok()) synced = RecordSize(*inode);
    if (result.ok()) result = synced;
    // A diff may have more data files than a process may open.
    MutexLock lock(&inode->mutex);
    DropData(*inode);
  }
  if (result.ok()) result = diff_->log().Sync(diff_->log().last_sequence());
  RemoveDoomed();
  if (result.ok()) result = diff_->MarkClean();
  if (!result.ok())
    spdlog::error("diff {}: not closed cleanly: {}", diff_->path(), result.ToString());
  return result;
}

}  // namespace pbkfs
