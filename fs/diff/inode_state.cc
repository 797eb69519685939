#include "fs/diff/inode_state.h"

#include <sys/stat.h>

#include <algorithm>

#include "fs/diff/limits.h"

namespace pbkfs {

bool FileLayout::Tracked(int64_t block) const { return block * kBlockSize < lower_limit; }

void FileLayout::Apply(const DataFileRecord&, uint64_t sequence) {
  has_data = true;
  data_bytes = 0;
  data_file = last_layout = sequence;
  // Whatever was cut before had no data file, so that nothing is left to destroy.
  uncut = 0;
}

void FileLayout::Apply(const PresentRecord& record, uint64_t sequence) {
  present.AddRange(record.first, record.count);
  last_layout = std::max(last_layout, sequence);
}

void FileLayout::Apply(const SizeRecord& record, uint64_t sequence) {
  size = record.size;
  data_bytes = std::min(data_bytes, size);
  lower_limit = std::min(lower_limit, record.lower_limit);
  present.RemoveFrom((lower_limit + kBlockSize - 1) / kBlockSize);
  last_layout = sequence;
  last_size = sequence;
  if (record.shrinks != 0) uncut = sequence;
}

void FileLayout::Apply(const PunchRecord& record, uint64_t sequence) {
  const int64_t first = (record.offset + kBlockSize - 1) / kBlockSize;
  const int64_t end = std::min((record.offset + record.length) / kBlockSize,
                               (lower_limit + kBlockSize - 1) / kBlockSize);
  if (end > first) present.AddRange(first, end - first);
  last_layout = sequence;
  uncut = sequence;
}

void FileLayout::Apply(const CutRecord& record) {
  if (uncut == record.sequence) uncut = 0;
}

void FileLayout::Apply(const SyncedRecord& record) {
  if (record.through < synced_through) return;
  // Extensions have no record: two looks as of one sequence may see two sizes.
  synced_size = record.through == synced_through ? std::max(synced_size, record.size) : record.size;
  synced_through = record.through;
  // A size that was changed explicitly after `through` is newer than what this record saw.
  if (record.through < last_size) return;
  size = std::max(size, record.size);
  data_bytes = std::max(data_bytes, record.data_bytes);
}

void FileLayout::Confirm(uint64_t through) {
  synced_through = through;
  synced_size = size;
}

InodeState InodeState::OfLower(const LowerTree& lower, const LowerNode& node, uint32_t uid,
                               uint32_t gid) {
  InodeState state;
  state.ino = node.ino;
  state.mode = node.mode;
  state.uid = uid;
  state.gid = gid;
  state.atime = state.mtime = state.ctime = absl::ToUnixNanos(lower.Time());
  if (!S_ISDIR(node.mode)) state.layout.size = node.size;
  if (S_ISREG(node.mode)) state.layout.lower_limit = node.size;
  return state;
}

InodeState InodeState::OfNew(const CreateRecord& record, uint64_t sequence) {
  InodeState state;
  state.ino = record.ino;
  state.mode = record.mode;
  state.uid = record.uid;
  state.gid = record.gid;
  state.rdev = record.rdev;
  state.symlink = record.symlink;
  state.atime = state.mtime = state.ctime = record.time;
  state.last_name = sequence;
  return state;
}

InodeState InodeState::OfCheckpoint(const InodeRecord& record) {
  InodeState state;
  state.ino = record.ino;
  state.mode = record.mode;
  state.uid = record.uid;
  state.gid = record.gid;
  state.nlink = record.nlink;
  state.rdev = record.rdev;
  state.atime = record.atime;
  state.mtime = record.mtime;
  state.ctime = record.ctime;
  state.symlink = record.symlink;
  state.layout.has_data = record.has_data != 0;
  state.layout.size = record.size;
  state.layout.lower_limit = record.lower_limit;
  state.layout.Confirm(record.synced_through);
  state.layout.last_size = record.last_size;
  state.layout.data_bytes = record.data_bytes;
  return state;
}

InodeRecord InodeState::ToCheckpoint(uint64_t confirmed_through) const {
  InodeRecord record;
  record.ino = ino;
  record.mode = mode;
  record.uid = uid;
  record.gid = gid;
  record.nlink = nlink;
  record.rdev = rdev;
  record.atime = atime;
  record.mtime = mtime;
  record.ctime = ctime;
  record.symlink = symlink;
  record.has_data = layout.has_data ? 1 : 0;
  record.size = layout.size;
  record.lower_limit = layout.lower_limit;
  record.synced_through = confirmed_through;
  record.last_size = layout.last_size;
  record.data_bytes = layout.data_bytes;
  return record;
}

bool InodeState::IsDirectory() const { return S_ISDIR(mode); }
bool InodeState::IsRegular() const { return S_ISREG(mode); }

void InodeState::Apply(const SetAttrRecord& record, uint64_t sequence) {
  if ((record.mask & SetAttrRecord::kMode) != 0) mode = (mode & S_IFMT) | (record.mode & ~S_IFMT);
  if ((record.mask & SetAttrRecord::kUid) != 0) uid = record.uid;
  if ((record.mask & SetAttrRecord::kGid) != 0) gid = record.gid;
  if ((record.mask & SetAttrRecord::kAtime) != 0) atime = record.atime;
  if ((record.mask & SetAttrRecord::kMtime) != 0) mtime = record.mtime;
  ctime = std::max(ctime, record.time);
  last_name = std::max(last_name, sequence);
}

void InodeState::NameAdded(uint64_t sequence, int64_t time) {
  ++nlink;
  NameChanged(sequence, time);
}

void InodeState::NameRemoved(uint64_t sequence, int64_t time) {
  nlink = IsDirectory() || nlink == 0 ? 0 : nlink - 1;
  NameChanged(sequence, time);
}

void InodeState::NameChanged(uint64_t sequence, int64_t time) {
  ctime = std::max(ctime, time);
  // Names are appended under one lock and applied under another: a later record may be here
  // already.
  last_name = std::max(last_name, sequence);
}

void InodeState::ChildrenChanged(uint64_t sequence, int64_t time) {
  mtime = time;
  NameChanged(sequence, time);
}

}  // namespace pbkfs
