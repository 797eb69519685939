// A file system in memory that can crash: it knows what was synced, and a crash keeps, drops or
// tears everything else independently and in any order, names too. Deterministic by seed.
//
// What a real file system may do and this one does: fdatasync makes the bytes and the size of a
// file durable, not the file's name; of unsynced changes any subset survives, writes by sector and
// punches by page, in any order; a size may survive without the bytes that made it; each name of a
// directory is kept or lost by itself, even both names of a rename; a sync that failed has thrown
// away what it did not write, and the next one does not bring it back.
//
// A process can die at a chosen operation: that operation may be done in part, and every later one
// fails until Revive(). Directories on "/run" survive the death of a process and not that of the
// machine, as a tmpfs does.
#ifndef PBKFS_TESTS_SUPPORT_SIM_IO_H_
#define PBKFS_TESTS_SUPPORT_SIM_IO_H_

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "fs/base/io.h"
#include "fs/base/mutex.h"

namespace pbkfs::testsupport {

class SimIo : public Io {
 public:
  explicit SimIo(uint64_t seed) : random_(seed) {}

  // The process dies at the `operations`-th changing operation from now: that one is done in part
  // or not at all.
  void DieAfter(uint64_t operations);
  bool dead() const;
  // A new process on the same machine.
  void Revive();
  // What was left on the tmpfs is gone, and nothing else.
  void LoseEvidence();
  // The next sync of a file or directory of that name fails; what of it reached the disk is left to
  // chance. "" takes that back.
  void FailNextSync(const std::string& name);
  // The machine stops: what was not synced is kept, dropped or torn. A new process may start then.
  void Crash();
  uint64_t operations() const;

  absl::StatusOr<std::unique_ptr<IoDir>> OpenDir(const std::string& path) override;
  absl::Status MakeDir(const std::string& path, mode_t mode) override;

 private:
  friend class SimFile;
  friend class SimDir;

  // A change of a file's bytes that was not synced.
  struct Change {
    enum Kind { kWrite, kTruncate, kExtend, kPunch } kind;
    int64_t offset = 0;  // kTruncate: the new size; kExtend: the size if the file is shorter.
    std::string bytes;   // kWrite
    int64_t length = 0;  // kPunch
  };
  struct File {
    std::string bytes;
    std::string durable;
    std::vector<Change> changes;  // Since the last sync.
    // A sync failed: the page cache may show what will never be on the disk.
    bool sync_failed = false;
    bool locked = false;
  };
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  struct Node {
    uint64_t number = 0;
    std::string name;
    bool is_directory = false;
    bool in_memory = false;
    File file;
    std::map<std::string, NodePtr> entries;
    // What each name may still be after a crash: its durable value first, then every value since.
    std::map<std::string, std::vector<NodePtr>> unsynced;
  };

  // Counts a changing operation. OK, or the error of a dead process; `*partial` where this
  // operation is the last one.
  absl::Status Begin(bool* partial) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetEntry(Node& directory, const std::string& name, NodePtr node)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void Apply(const Change& change, std::string* bytes);
  // The bytes on the disk when an unknown part of the changes got there: at a crash, or when a sync
  // failed.
  std::string Survivors(const File& file, bool crashed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether a sync of `node` is one that fails.
  bool TakeFailure(const Node& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropCleanPages(Node& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CrashDirectory(Node& directory) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  NodePtr Walk(const std::string& path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
  NodePtr root_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t operations_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t die_at_ ABSL_GUARDED_BY(mutex_) = UINT64_MAX;
  bool dead_ ABSL_GUARDED_BY(mutex_) = false;
  std::string failing_sync_ ABSL_GUARDED_BY(mutex_);
  bool unreported_error_ ABSL_GUARDED_BY(mutex_) = false;  // For syncfs.
  uint64_t boot_ ABSL_GUARDED_BY(mutex_) = 1;              // Goes into mount ids.
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_SIM_IO_H_
