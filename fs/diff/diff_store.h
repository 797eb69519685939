// A diff directory: who it belongs to, its lock, its log and its data files.
//
//   binding.json   what the diff belongs to; lock   held while the diff is mounted
//   log            the MetaLog; log.new            a checkpoint that is being made
//   data/<ino>     written bytes of one inode, in hex; trash/   data files that the log does not
//   know
//
// A store is owned by one Overlay. Its methods may be called from any thread once Recover has
// returned.
#ifndef PBKFS_FS_DIFF_DIFF_STORE_H_
#define PBKFS_FS_DIFF_DIFF_STORE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/io.h"
#include "fs/base/lower_tree.h"
#include "fs/diff/binding.h"
#include "fs/diff/meta_log.h"
#include "fs/diff/page_cache_evidence.h"
#include "fs/diff/recovery.h"

namespace pbkfs {

class DiffStore {
 public:
  // Opens the diff at the absolute `path`, and makes it (mode 0700, its last component too) where
  // there is nothing or an empty directory.
  //   FAILED_PRECONDITION DIFF_BOUND_ELSEWHERE  it belongs to another image, or the directory holds
  //   something else FAILED_PRECONDITION DIFF_IN_USE           somebody holds its lock DATA_LOSS
  //   DIFF_CORRUPT, UNIMPLEMENTED UNSUPPORTED_FORMAT
  // `maker` is written into what is made, for DeleteMade.
  static absl::StatusOr<std::unique_ptr<DiffStore>> Open(Io& io, const std::string& path,
                                                         const DiffIdentity& identity,
                                                         uint64_t maker = 0);
  // Takes over the diff of a process that died from whoever held `directory` and the diff's lock
  // since that process opened it. Resume takes the place of Recover.
  static absl::StatusOr<std::unique_ptr<DiffStore>> TakeOver(Io& io,
                                                             std::unique_ptr<IoDir> directory,
                                                             const std::string& path,
                                                             const DiffIdentity& identity);
  // The checks of Open, changing nothing. The binding of the diff that it would open; nothing where
  // it would make one.
  static absl::StatusOr<std::optional<v1::DiffBinding>> Check(Io& io, const std::string& path,
                                                              const DiffIdentity& identity);
  // Deletes the diff at `path`, damaged ones too, or an empty directory. Refuses one that is in use
  // (DIFF_IN_USE) and a directory that is not a diff, or holds anything else
  // (DIFF_BOUND_ELSEWHERE). May be called again after it was interrupted. NOT_FOUND
  // (DIFF_NOT_FOUND) where there is none, or somebody else was faster.
  static absl::Status Delete(Io& io, const std::string& path);
  // As Delete, but only what Open with this `maker` made, and nobody used since.
  // FAILED_PRECONDITION (DIFF_IN_USE) for any other diff.
  static absl::Status DeleteMade(Io& io, const std::string& path, uint64_t maker);
  // Ends the deletions of diffs in `directory` that were interrupted; empty directories go, too.
  static void FinishDeletions(Io& io, const std::string& directory);

  // Makes a diff empty that is not prepared, and one of the `maker` that Open was given: whoever
  // was to prepare it was interrupted, and may have had other settings. Before Recover.
  absl::Status StartOver();
  // Brings the diff into a state that can be served: replays the log, throws away what is not
  // believed, begins a new epoch. Called once.
  absl::StatusOr<DiffState> Recover(const LowerTree& lower, uint64_t session_nonce);
  // Brings back the state as it was when the process died, with the orphans of `held`: nothing that
  // was replied to is lost, and nothing is synced. The log goes on in its epoch: what was cut off
  // its end is one record at most, and no valid one. Called once.
  absl::StatusOr<DiffState> Resume(const LowerTree& lower, uint64_t session_nonce,
                                   const absl::flat_hash_set<uint64_t>& held);
  // What Recover found.
  ShutdownKind shutdown_kind() const { return shutdown_kind_; }

  // Whether the settings that make a clone harmless were written. Written by MarkPrepared, once in
  // the diff's life.
  bool prepared() const { return binding_.prepared(); }
  absl::Status MarkPrepared(const std::vector<std::string>& guards, bool tablespace_links,
                            const std::vector<std::string>& targets);
  // Where a diff that is prepared is mounted now: the maker may no longer delete it.
  absl::Status MarkUsedAt(const std::vector<std::string>& targets);
  // Whether the diff is to be deleted when its mount ends: kept in the binding, so that what a
  // daemon that died left behind can be told.
  absl::Status MarkEphemeral(bool ephemeral);
  std::vector<std::string> guards() const;
  std::vector<std::string> targets() const;
  uint32_t owner_uid() const { return binding_.owner_uid(); }
  uint32_t owner_gid() const { return binding_.owner_gid(); }

  // The next open will not take the page cache for intact.
  void DistrustPageCache() { MarkFailed(io_, evidence_); }

  MetaLog& log() { return *log_; }
  // Borrowed: what has to stay open for the diff to be taken over; -1 where there is none. The
  // witness is there after Recover: a descriptor of the directory, opened before the session's
  // first write, that learns of every write-out that fails since.
  int directory_descriptor() const { return directory_->descriptor(); }
  int witness_descriptor() const { return witness_ == nullptr ? -1 : witness_->descriptor(); }
  int lock_descriptor() const { return lock_ == nullptr ? -1 : lock_->descriptor(); }

  // Whether the log has grown so much since the last checkpoint, or is in such a state, that a
  // checkpoint is due. `growth_bytes` is the least growth that counts.
  bool CheckpointDue(int64_t growth_bytes) const;
  // Writes the log anew, beside whatever goes on: appends wait for its end only, which has little
  // left to copy unless they are faster. On failure the old one goes on, and the next attempt waits
  // for more growth. `unanswered` gives the requests whose record is in the log now and that may
  // be sent again.
  absl::Status Checkpoint(const LowerTree& lower,
                          absl::FunctionRef<std::vector<AnswerRecord>()> unanswered)
      ABSL_LOCKS_EXCLUDED(checkpoint_mutex_);

  const std::string& path() const { return path_; }

  // Makes the empty data file of an inode; it must not exist.
  absl::StatusOr<std::unique_ptr<IoFile>> CreateData(uint64_t ino);
  absl::StatusOr<std::unique_ptr<IoFile>> OpenData(uint64_t ino);
  absl::Status RemoveData(uint64_t ino);
  // Makes the entries of data/ durable.
  absl::Status SyncDataDirectory();
  absl::StatusOr<struct statvfs> FileSystem() { return directory_->FileSystem(); }
  // Bytes that the data files and the log occupy on the disk. Walks data/.
  absl::StatusOr<int64_t> AllocatedBytes();

  // After everything was synced: the clean-unmount marker. Nothing may be appended after it.
  absl::Status MarkClean();

 private:
  DiffStore(Io& io, std::string path, uint64_t maker)
      : io_(io), path_(std::move(path)), maker_(maker) {}

  static absl::StatusOr<std::unique_ptr<DiffStore>> OpenOnce(Io& io, const std::string& path,
                                                             const DiffIdentity& identity,
                                                             uint64_t maker);
  // Replaces the binding, durably, where `binding` says something else.
  absl::Status Bind(v1::DiffBinding binding);
  absl::Status OpenDirectories();
  absl::Status OpenLog(absl::StatusOr<std::unique_ptr<IoFile>> old_file, OpenRecord open,
                       Recovered& recovered);
  absl::Status WriteCheckpoint(const LowerTree& lower,
                               absl::FunctionRef<std::vector<AnswerRecord>()> unanswered)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(checkpoint_mutex_);
  absl::Status TrashUnknownData(bool session_goes_on, DiffState* state);

  Io& io_;
  const std::string path_;
  const uint64_t maker_;
  std::unique_ptr<IoDir> directory_;
  std::unique_ptr<IoDir> data_;
  std::unique_ptr<IoDir> trash_;
  std::unique_ptr<IoFile> lock_;
  v1::DiffBinding binding_;
  std::unique_ptr<MetaLog> log_;
  Mutex data_sync_mutex_;
  absl::Status data_sync_failed_ ABSL_GUARDED_BY(data_sync_mutex_);
  std::unique_ptr<IoDir> witness_;
  PageCacheEvidence evidence_;
  Mutex checkpoint_mutex_;                    // One checkpoint at a time.
  std::atomic<int64_t> checkpoint_bytes_{0};  // Length of the state in the last one …
  std::atomic<int64_t> postponed_until_{0};   // … and that which the next attempt waits for.
  ShutdownKind shutdown_kind_ = ShutdownKind::kClean;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_DIFF_STORE_H_
