#include "fs/session/handle_table.h"

#include <algorithm>

namespace pbkfs {

HandleTable::HandleTable(absl::Span<HandleEntry> entries) : entries_(entries) {
  MutexLock lock(&mutex_);
  // Entries are used from the front, and no further than they ever were: the memory behind was
  // never touched, and looking at it would allocate it.
  constexpr size_t kPageEntries = 4096 / sizeof(HandleEntry);
  for (size_t page = 0; page < entries_.size(); page += kPageEntries) {
    bool touched = false;
    for (size_t i = page; i < page + kPageEntries && i < entries_.size(); ++i) {
      const uint64_t handle = entries_[i].handle.load(std::memory_order_acquire);
      touched = touched || handle != 0 || entries_[i].ino.load(std::memory_order_relaxed) != 0;
      if (handle != 0) places_[handle] = {static_cast<uint32_t>(i), false};
    }
    if (!touched) break;
    used_ = static_cast<uint32_t>(std::min(page + kPageEntries, entries_.size()));
  }
  for (uint32_t i = used_; i-- > 0;) {
    if (entries_[i].handle.load(std::memory_order_relaxed) == 0) free_.push_back(i);
  }
}

HandleTable::Added HandleTable::Add(uint64_t handle, uint64_t ino) {
  MutexLock lock(&mutex_);
  const auto found = places_.find(handle);
  if (found != places_.end()) {
    found->second.claimed = true;
    return Added::kKnown;
  }
  uint32_t index = used_;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else if (used_ < entries_.size()) {
    ++used_;
  } else {
    return Added::kFull;
  }
  HandleEntry& entry = entries_[index];
  entry.flags.store(0, std::memory_order_relaxed);
  entry.ino.store(ino, std::memory_order_relaxed);
  entry.handle.store(handle, std::memory_order_release);
  places_[handle] = {index, true};
  return Added::kNew;
}

void HandleTable::MarkReplied(uint64_t handle) {
  MutexLock lock(&mutex_);
  const auto found = places_.find(handle);
  if (found == places_.end()) return;
  entries_[found->second.index].flags.fetch_or(HandleEntry::kReplied, std::memory_order_release);
}

// `ino` stays, so that the table is known to have reached this far.
void HandleTable::Clear(uint32_t index) {
  entries_[index].handle.store(0, std::memory_order_release);
  free_.push_back(index);
}

std::optional<uint64_t> HandleTable::Remove(uint64_t handle) {
  MutexLock lock(&mutex_);
  const auto found = places_.find(handle);
  if (found == places_.end()) return std::nullopt;
  const uint32_t index = found->second.index;
  const uint64_t ino = entries_[index].ino.load(std::memory_order_relaxed);
  places_.erase(found);
  Clear(index);
  return ino;
}

std::vector<uint64_t> HandleTable::DropUnclaimed() {
  std::vector<uint64_t> dropped;
  MutexLock lock(&mutex_);
  for (auto it = places_.begin(); it != places_.end();) {
    const HandleEntry& entry = entries_[it->second.index];
    const bool replied = (entry.flags.load(std::memory_order_acquire) & HandleEntry::kReplied) != 0;
    if (replied || it->second.claimed) {
      ++it;
      continue;
    }
    dropped.push_back(entry.ino.load(std::memory_order_relaxed));
    Clear(it->second.index);
    places_.erase(it++);
  }
  return dropped;
}

std::vector<uint64_t> HandleTable::Inodes() const {
  std::vector<uint64_t> inodes;
  MutexLock lock(&mutex_);
  for (const auto& [handle, place] : places_) {
    inodes.push_back(entries_[place.index].ino.load(std::memory_order_relaxed));
  }
  return inodes;
}

}  // namespace pbkfs
