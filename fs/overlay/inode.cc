#include "fs/overlay/inode.h"

namespace pbkfs {

std::shared_ptr<Inode> InodeTable::Find(uint64_t ino) const {
  ReaderLock lock(&mutex_);
  const auto found = inodes_.find(ino);
  return found == inodes_.end() ? nullptr : found->second;
}

std::shared_ptr<Inode> InodeTable::Insert(std::shared_ptr<Inode> inode) {
  WriterLock lock(&mutex_);
  return inodes_.try_emplace(inode->ino, inode).first->second;
}

void InodeTable::MarkGone(uint64_t ino) {
  WriterLock lock(&mutex_);
  gone_.insert(ino);
}

bool InodeTable::IsGone(uint64_t ino) const {
  ReaderLock lock(&mutex_);
  return gone_.contains(ino);
}

std::vector<std::shared_ptr<Inode>> InodeTable::All() const {
  ReaderLock lock(&mutex_);
  std::vector<std::shared_ptr<Inode>> all;
  all.reserve(inodes_.size());
  for (const auto& [ino, inode] : inodes_) all.push_back(inode);
  return all;
}

}  // namespace pbkfs
