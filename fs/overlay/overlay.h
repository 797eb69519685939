// A writable tree: a read-only LowerTree, and over it everything that was changed, kept in a
// DiffStore.
//
// The overlay speaks of inodes and names as a file system does; fs/session translates the FUSE
// protocol to it. Node ids given to the kernel are inode numbers, so no table of look-ups is
// needed. All methods may be called from any thread. Errors carry the errno that the application
// should see. Lock order: tickets, namespace_mutex_, Inode::mutex, dirty_mutex_ and the log's own
// locks.
#ifndef PBKFS_FS_OVERLAY_OVERLAY_H_
#define PBKFS_FS_OVERLAY_OVERLAY_H_

#include <sys/statvfs.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "fs/base/io_stats.h"
#include "fs/base/lower_tree.h"
#include "fs/base/mutex.h"
#include "fs/diff/diff_store.h"
#include "fs/overlay/answer_table.h"
#include "fs/overlay/diff_space.h"
#include "fs/overlay/idle_work.h"
#include "fs/overlay/inode.h"
#include "fs/overlay/pending_ops.h"
#include "fs/overlay/side_tree.h"
#include "fs/overlay/takeover.h"

namespace pbkfs {

struct OverlayOptions {
  bool read_only = false;  // Mutations answer EROFS.
  // Blocks that are read from the image are copied into the diff.
  bool materialize_on_read = false;
  // How much the diff may take: allocated bytes of data files, and the log. 0 = no limit.
  int64_t diff_limit_bytes = 0;
  // Shown read-only as .pbkfs in the root; null = none.
  std::shared_ptr<const LowerTree> side_tree;
  // How long unconfirmed writes may wait for the background pass. Long enough not to compete with
  // commits, short enough that a checkpoint has little to carry over.
  std::chrono::milliseconds background_interval{10000};
  // How many data files the mounts of the process may have open before a write waits for those
  // that are not synced. 0 = a quarter of RLIMIT_NOFILE.
  int64_t max_data_files = 0;
  // How much the log grows before it is written anew.
  int64_t checkpoint_growth_bytes = kCheckpointGrowthBytes;
  // Where the figures are counted; null = in the overlay. Outlive the overlay.
  IoStats* stats = nullptr;
  PendingCounters* pending_counters = nullptr;
  // Of a new session; 0 = drawn at random.
  uint64_t session_nonce = 0;
  // Set: the diff was taken over (DiffStore::TakeOver), and its session goes on.
  std::optional<Takeover> takeover;
  // A failure to make something durable could not be written into the log: another process that
  // takes over must hear of it.
  std::function<void()> sync_failed = [] {};
  // The same of the log itself, which a checkpoint heals: false then.
  std::function<void(bool failed)> log_failed = [](bool) {};
};

struct Attributes {
  uint64_t ino = 0;
  uint32_t mode = 0;
  uint32_t nlink = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t rdev = 0;
  int64_t size = 0;
  int64_t atime = 0;  // Nanoseconds since the epoch.
  int64_t mtime = 0;
  int64_t ctime = 0;
};

// What a SETATTR changes; unset = stays.
struct AttributeChange {
  std::optional<uint32_t> mode;  // Permission bits.
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  std::optional<int64_t> size;
  std::optional<int64_t> atime;
  std::optional<int64_t> mtime;
};

// What is to be created under a name.
struct NewNode {
  uint32_t mode = 0;  // With the file type.
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t rdev = 0;
  std::string symlink;
};

struct DirectoryEntry {
  absl::string_view name;
  uint64_t ino = 0;
  uint64_t cookie = 0;
};

struct DiffFigures {
  int64_t diff_bytes = 0;  // Allocated bytes of data files and log; its reserve does not count.
  int64_t fs_free_bytes = 0;
  int64_t metalog_bytes = 0;
};

class Overlay {
 public:
  // Takes the diff and recovers it: DATA_LOSS (DIFF_CORRUPT) where it is damaged.
  static absl::StatusOr<std::unique_ptr<Overlay>> Create(std::shared_ptr<const LowerTree> lower,
                                                         std::unique_ptr<DiffStore> diff,
                                                         const OverlayOptions& options);
  ~Overlay();

  // The nonce of this session; requests carry it (RequestId).
  uint64_t session_nonce() const { return session_nonce_; }
  // What requests about names were answered, while the kernel may ask again.
  AnswerTable& answers() { return answers_; }

  // ---- names ----
  absl::StatusOr<Attributes> Lookup(uint64_t parent, absl::string_view name);
  void Forget(uint64_t ino);
  absl::StatusOr<Attributes> Create(uint64_t parent, absl::string_view name, const NewNode& node,
                                    const RequestId& request);
  absl::StatusOr<Attributes> Link(uint64_t ino, uint64_t parent, absl::string_view name,
                                  const RequestId& request);
  absl::Status Unlink(uint64_t parent, absl::string_view name, const RequestId& request);
  absl::Status RemoveDirectory(uint64_t parent, absl::string_view name, const RequestId& request);
  // `flags` as for renameat2(2); RENAME_NOREPLACE is known.
  absl::Status Rename(uint64_t parent, absl::string_view name, uint64_t new_parent,
                      absl::string_view new_name, unsigned flags, const RequestId& request);
  absl::StatusOr<std::string> ReadLink(uint64_t ino);
  // Visits "." and "..", then the entries with a cookie greater than `after`, until `visit` returns
  // false.
  absl::Status ReadDirectory(uint64_t ino, uint64_t after,
                             const std::function<bool(const DirectoryEntry&)>& visit);

  // The file type and permissions for a listing; 0 where the inode is gone. Keeps nothing in
  // memory.
  uint32_t ModeOf(uint64_t ino) const;

  // ---- attributes ----
  absl::StatusOr<Attributes> GetAttributes(uint64_t ino);
  absl::StatusOr<Attributes> SetAttributes(uint64_t ino, const AttributeChange& change);

  // ---- files ----
  absl::Status Open(uint64_t ino);
  void Release(uint64_t ino);
  // How many bytes were read: less than out.size() only at the end of the file.
  absl::StatusOr<size_t> Read(uint64_t ino, int64_t offset, absl::Span<uint8_t> out);
  absl::Status Write(uint64_t ino, int64_t offset, absl::Span<const uint8_t> data);
  // `mode` as for fallocate(2): 0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE (| KEEP_SIZE).
  absl::Status Allocate(uint64_t ino, int mode, int64_t offset, int64_t length);
  // As lseek(2) with SEEK_DATA or SEEK_HOLE.
  absl::StatusOr<int64_t> Seek(uint64_t ino, int64_t offset, int whence);
  // Waits, after a takeover, until it is known that nothing was lost in between.
  absl::Status Fsync(uint64_t ino);
  // Makes every name and attribute durable.
  absl::Status FsyncDirectory();
  // The diff's file system, or what is left of the limit.
  absl::StatusOr<struct statvfs> FileSystem();

  // ---- by path, for the control plane ----
  // The whole content. NOT_FOUND where there is no such file, OUT_OF_RANGE where it is longer than
  // `limit` bytes.
  absl::StatusOr<std::string> ReadFile(absl::string_view path, int64_t limit);
  // Creates or replaces a regular file of the diff's owner, durably; `mode` is used when it is
  // created.
  absl::Status WriteFile(absl::string_view path, absl::string_view content, uint32_t mode);
  // Moves the directory at `path` to `new_path`, whose own directory is made where it is missing,
  // and leaves a symbolic link to `target` in its place, durably. EEXIST where `new_path` is.
  absl::Status MoveBehindLink(absl::string_view path, absl::string_view new_path,
                              const std::string& target);
  // Makes `path`, a symbolic link or nothing yet, a symbolic link to `target`, durably. A crash
  // leaves the old one or the new one, and perhaps what RemoveUnfinishedLink removes.
  absl::Status PutLink(absl::string_view path, const std::string& target);
  absl::Status RemoveUnfinishedLink();
  struct NamedLink {
    std::string name;
    std::string target;
  };
  // The symbolic links in the directory at `path`. NOT_FOUND where there is no such directory.
  absl::StatusOr<std::vector<NamedLink>> LinksIn(absl::string_view path);
  // Mutations answer EROFS from now on. Before anything is served.
  void MakeReadOnly() { options_.read_only = true; }

  // ---- maintenance ----
  // What the background thread does at each interval: confirms writes that nobody synced, removes
  // what is gone, and writes the log anew where that is due.
  void Maintain();
  // Writes the log anew now.
  absl::Status Checkpoint() ABSL_LOCKS_EXCLUDED(namespace_mutex_);

  // Waits until the queue of fills and write-outs is empty.
  void DrainIdleWork() { idle_work_.Drain(); }

  // Waits for what is in flight, makes everything durable, marks the diff clean. No calls after it
  // but figures.
  absl::Status Close();

  // ---- figures ----
  IoSnapshot io() const { return stats().Snapshot(); }
  // Inodes in memory: those that the kernel knows, and those that the diff does.
  size_t tracked_inodes() const { return inodes_.size(); }
  PendingFigures pending() const { return pending_.Figures(); }
  absl::StatusOr<DiffFigures> diff() const;
  DiffStore& diff_store() { return *diff_; }
  // Why mutations fail now; OK while everything is in order.
  absl::Status health() const { return diff_->log().health(); }

 private:
  friend class FileWriter;
  using InodePtr = std::shared_ptr<Inode>;

  Overlay(std::shared_ptr<const LowerTree> lower, std::unique_ptr<DiffStore> diff,
          const OverlayOptions& options);

  IoStats& stats() const { return options_.stats == nullptr ? own_stats_ : *options_.stats; }
  void GoOn(const Takeover& takeover);
  void MarkGone(uint64_t ino);

  // overlay.cc
  absl::StatusOr<InodePtr> GetInode(uint64_t ino);
  absl::StatusOr<InodePtr> GetDirectory(uint64_t ino);
  absl::StatusOr<InodePtr> GetRegular(uint64_t ino);
  Attributes AttributesOf(Inode& inode) ABSL_LOCKS_EXCLUDED(inode.mutex);
  static Attributes FillAttributes(const Inode& inode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(inode.mutex);
  absl::Status CheckWritable() const;
  void TouchChildren(Inode& directory, uint64_t sequence, int64_t time);
  static void KeepTime(const Inode& inode, IoFile& data) ABSL_EXCLUSIVE_LOCKS_REQUIRED(inode.mutex);
  void DropData(Inode& inode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(inode.mutex);
  void DropIdleFiles(Inode& inode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(inode.mutex);

  // namespace_ops.cc
  // The tickets of an operation on names, and the inodes that they belong to.
  struct NameTickets {
    std::vector<InodePtr> inodes;
    std::vector<Ticket> tickets;  // Goes first.
  };
  using NamePlace = std::pair<uint64_t, absl::string_view>;  // Directory and name.
  NameTickets DrawForNames(std::initializer_list<NamePlace> places);
  absl::Status CheckNewName(uint64_t parent, absl::string_view name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(namespace_mutex_);
  absl::StatusOr<DirectoryTable::Entry> LookupEntry(uint64_t parent, absl::string_view name) const
      ABSL_SHARED_LOCKS_REQUIRED(namespace_mutex_);
  absl::Status RemoveName(uint64_t parent, absl::string_view name, bool directory,
                          const RequestId& request);
  absl::Status CheckReplaceable(Inode& source, Inode& target)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(namespace_mutex_);
  absl::Status ConfirmBeforeReplacing(uint64_t parent, absl::string_view name, uint64_t new_parent,
                                      absl::string_view new_name);
  absl::Status RenameLocked(uint64_t parent, absl::string_view name, uint64_t new_parent,
                            absl::string_view new_name, unsigned flags, const RequestId& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(namespace_mutex_);

  // file_io.cc
  absl::StatusOr<std::shared_ptr<IoFile>> DataFile(Inode& inode) ABSL_LOCKS_EXCLUDED(inode.mutex);
  absl::StatusOr<std::shared_ptr<IoFile>> DataFileLocked(Inode& inode)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(inode.mutex);
  void AwaitDescriptors(Inode& inode) ABSL_LOCKS_EXCLUDED(inode.mutex, dirty_mutex_);
  absl::StatusOr<std::shared_ptr<IoFile>> DataFileForWriting(Inode& inode)
      ABSL_LOCKS_EXCLUDED(inode.mutex);
  absl::StatusOr<std::shared_ptr<const LowerFile>> LowerOf(Inode& inode)
      ABSL_LOCKS_EXCLUDED(inode.mutex);
  // Where the bytes of one answer came from.
  struct ReadSources {
    uint64_t diff = 0;
    uint64_t backup = 0;
    uint64_t zero = 0;
  };
  absl::Status ReadExtent(Inode& inode, int64_t offset, absl::Span<uint8_t> out, bool from_data,
                          int64_t lower_limit, ReadSources* sources);
  absl::StatusOr<size_t> TryRead(Inode& inode, int64_t offset, absl::Span<uint8_t> out,
                                 uint64_t* destroyed, ReadSources* sources);
  // Read, but what was answered is not counted as an application's.
  absl::StatusOr<size_t> ReadUncounted(uint64_t ino, int64_t offset, absl::Span<uint8_t> out,
                                       ReadSources* sources);
  absl::Status WriteLocked(Inode& inode, int64_t offset, absl::Span<const uint8_t> data);
  absl::Status Resize(const InodePtr& inode, int64_t size);
  absl::Status PunchRange(Inode& inode, int64_t offset, int64_t length);
  absl::Status AllocateRange(Inode& inode, int64_t offset, int64_t length, bool extends);

  // destruction.cc
  absl::Status CheckUsable(const Inode& inode) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(inode.mutex);
  void RefuseWrites(Inode& inode, Destruction unfinished) ABSL_LOCKS_EXCLUDED(inode.mutex);
  void CutBack(Inode& inode, IoFile& data, int64_t size) ABSL_LOCKS_EXCLUDED(inode.mutex);
  absl::Status FinishDestruction(Inode& inode, Destruction destruction);
  absl::Status Destroy(Inode& inode, const Destruction& destruction);
  absl::Status Repair(Inode& inode);

  // fills.cc
  struct FillRun {
    int64_t first = 0;
    int64_t end = 0;
    int64_t end_byte = 0;
  };
  void OfferFill(uint64_t ino, int64_t begin, int64_t end);
  static FillRun MissingRun(const Inode& inode, int64_t first, int64_t end)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(inode.mutex);
  void Fill(uint64_t ino, int64_t first, int64_t end);
  absl::StatusOr<bool> FillBlocks(const InodePtr& inode, const FillRun& run);
  absl::Status CopyIn(Inode& inode, int64_t offset, absl::Span<const uint8_t> bytes);

  // space.cc
  absl::StatusOr<int64_t> GrowthOf(Inode& inode, int64_t offset, int64_t end);
  absl::StatusOr<int64_t> ClaimSpace(Inode& inode, int64_t offset, int64_t length);
  void SettleSpace(Inode& inode, int64_t claimed) ABSL_LOCKS_EXCLUDED(inode.mutex);
  absl::Status CheckSpaceForRecord();
  void MeasureSpace();
  bool RoomForFill(int64_t bytes);

  // file_seek.cc
  // Blocks of one kind up to byte `end`: in the data file (or a hole), or in the image.
  struct SeekRun {
    int64_t end = 0;
    bool in_data_file = false;
  };
  static SeekRun RunAt(const Inode& inode, int64_t offset)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(inode.mutex);
  absl::StatusOr<int64_t> TrySeek(Inode& inode, int64_t offset, int whence, uint64_t* destroyed);

  // file_sync.cc
  absl::Status SyncInode(Inode& inode);
  absl::Status SyncExclusively(Inode& inode);
  // Before a clean unmount, after the sync.
  absl::Status RecordSize(Inode& inode);
  absl::Status MarkFailed(Inode& inode, const absl::Status& cause);
  absl::Status PassGate() const { return gate_ == nullptr ? absl::OkStatus() : gate_->Wait(); }

  // maintenance.cc
  void ListDirty(const InodePtr& inode);
  void Reap(const InodePtr& inode);
  // Whether anything was removed.
  bool RemoveDoomed();
  void HintWriteback(Inode& inode, const std::shared_ptr<IoFile>& data, int64_t begin, int64_t end)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(inode.mutex);
  void ConfirmDirty();
  void Confirm(Inode& inode);
  void RunBackground();
  void StopBackground();

  // path_io.cc
  absl::StatusOr<uint64_t> Resolve(absl::string_view path, uint64_t* parent, std::string* name);
  absl::Status MakeOwnDirectory(absl::string_view path);
  NewNode OwnNode(uint32_t mode) const;  // Of the diff's owner.

  const std::shared_ptr<const LowerTree> lower_;
  const std::unique_ptr<DiffStore> diff_;
  OverlayOptions options_;
  const uint64_t session_nonce_;
  SideTree side_;

  DiffSpace space_;
  mutable IoStats own_stats_;
  std::unique_ptr<TakeoverGate> gate_;  // Null where nothing was taken over.
  AnswerTable answers_;
  PendingOps pending_;
  InodeTable inodes_;

  mutable SharedMutex namespace_mutex_;
  DirectoryTable names_ ABSL_GUARDED_BY(namespace_mutex_);
  uint64_t next_ino_ ABSL_GUARDED_BY(namespace_mutex_) = kFirstNewIno;

  Mutex dirty_mutex_;
  CondVar background_wake_;
  CondVar confirmed_;  // Signalled when the background pass is done with an inode.
  bool confirming_ ABSL_GUARDED_BY(dirty_mutex_) = false;
  uint64_t passes_ ABSL_GUARDED_BY(dirty_mutex_) = 0;  // That have ended.
  bool stopping_ ABSL_GUARDED_BY(dirty_mutex_) = false;
  // By number, so that a list keeps no orphan alive.
  std::vector<uint64_t> dirty_ ABSL_GUARDED_BY(dirty_mutex_);
  // Orphans that the kernel forgot while a thread of ours still had them.
  std::vector<uint64_t> forgotten_ ABSL_GUARDED_BY(dirty_mutex_);
  // Data files that may be removed once the record with this sequence is durable.
  struct Doomed {
    uint64_t sequence = 0;
    uint64_t ino = 0;
    int64_t space_taken = 0;
  };
  std::vector<Doomed> doomed_ ABSL_GUARDED_BY(dirty_mutex_);
  std::thread background_;
  bool closed_ = false;
  IdleWork idle_work_;  // Goes first: its tasks use everything above.
};

// Nanoseconds since the epoch.
int64_t NowNanos();

}  // namespace pbkfs

#endif  // PBKFS_FS_OVERLAY_OVERLAY_H_
