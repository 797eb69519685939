// What the diff knows of one inode, and how each record changes it. The live overlay and the replay
// of a log apply records through the same functions, so that they can't come to different answers.
// Not thread-safe: the overlay guards each state with its inode's lock.
#ifndef PBKFS_FS_DIFF_INODE_STATE_H_
#define PBKFS_FS_DIFF_INODE_STATE_H_

#include <cstdint>
#include <string>

#include "fs/base/lower_tree.h"
#include "fs/diff/block_set.h"
#include "fs/diff/records.h"

namespace pbkfs {

// Where the bytes of a regular file are (ARCHITECTURE.md, "Copy-on-write files").
struct FileLayout {
  bool has_data = false;    // data/<ino> exists.
  int64_t size = 0;         // Logical length in bytes.
  int64_t lower_limit = 0;  // Bytes of the image's file that may show through; never grows.
  int64_t data_bytes = 0;   // The data file was synced when it was so long.
  BlockSet present;         // Blocks that are in the data file; looked at only below lower_limit.

  uint64_t data_file = 0;    // Sequence of the DataFile record; 0 = a checkpoint tells of the file.
  uint64_t last_layout = 0;  // Sequence of the last DataFile, Present, Size or Punch record.
  uint64_t last_size = 0;    // Sequence of the last Size record.
  uint64_t uncut = 0;        // A Size or Punch record whose destruction has no Cut yet; 0 = none.
  uint64_t synced_through = 0;  // Records up to here are covered by a Synced.
  int64_t synced_size = 0;      // The logical size then.
  bool failed = false;          // A sync of the data file failed.

  // Whether the image's bytes may show through in `block`, so that `present` decides.
  bool Tracked(int64_t block) const;
  void Apply(const DataFileRecord& record, uint64_t sequence);
  void Apply(const PresentRecord& record, uint64_t sequence);
  void Apply(const SizeRecord& record, uint64_t sequence);
  void Apply(const PunchRecord& record, uint64_t sequence);
  void Apply(const CutRecord& record);
  void Apply(const SyncedRecord& record);
  // A checkpoint says that everything up to sequence `through` is durable: bytes that go now go
  // after their record, as those that were synced.
  void Confirm(uint64_t through);
};

struct InodeState {
  uint64_t ino = 0;
  uint32_t mode = 0;  // With the file type.
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t nlink = 1;
  uint64_t rdev = 0;
  int64_t atime = 0;  // Nanoseconds since the epoch.
  int64_t mtime = 0;
  int64_t ctime = 0;
  std::string symlink;
  uint64_t last_name =
      0;  // Sequence of the last record about a name or an attribute of this inode.
  FileLayout layout;

  // The state of an inode that the diff never changed.
  static InodeState OfLower(const LowerTree& lower, const LowerNode& node, uint32_t uid,
                            uint32_t gid);
  static InodeState OfNew(const CreateRecord& record, uint64_t sequence);
  static InodeState OfCheckpoint(const InodeRecord& record);
  // For a checkpoint in which everything up to `confirmed_through` is durable.
  InodeRecord ToCheckpoint(uint64_t confirmed_through) const;

  bool IsDirectory() const;
  bool IsRegular() const;
  void Apply(const SetAttrRecord& record, uint64_t sequence);
  // A name of this inode appeared, went away or changed.
  void NameAdded(uint64_t sequence, int64_t time);
  void NameRemoved(uint64_t sequence, int64_t time);
  void NameChanged(uint64_t sequence, int64_t time);
  // A name in this directory appeared or went away.
  void ChildrenChanged(uint64_t sequence, int64_t time);
};

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_INODE_STATE_H_
