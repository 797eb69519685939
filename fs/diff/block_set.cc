#include "fs/diff/block_set.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace pbkfs {

uint64_t BlockSet::WordOf(int64_t block) const {
  const auto chunk = static_cast<size_t>(block / kChunkBlocks);
  if (chunk >= chunks_.size() || chunks_[chunk] == nullptr) return 0;
  return (*chunks_[chunk])[static_cast<size_t>(block % kChunkBlocks / 64)];
}

bool BlockSet::Contains(int64_t block) const {
  assert(block >= 0);
  return ((WordOf(block) >> (block % 64)) & 1) != 0;
}

void BlockSet::AddRange(int64_t first, int64_t count) {
  assert(first >= 0 && count >= 0);
  const int64_t end = first + count;
  for (int64_t block = first; block < end;) {
    const auto chunk = static_cast<size_t>(block / kChunkBlocks);
    if (chunk >= chunks_.size()) chunks_.resize(chunk + 1);
    if (chunks_[chunk] == nullptr) {
      chunks_[chunk] = std::make_unique<Chunk>();
      ++chunk_count_;
    }
    // The blocks of one word at a time.
    const int64_t next = std::min(end, (block / 64 + 1) * 64);
    const uint64_t mask = (~uint64_t{0} >> (64 - (next - block))) << (block % 64);
    uint64_t& word = (*chunks_[chunk])[static_cast<size_t>(block % kChunkBlocks / 64)];
    size_ += std::popcount(mask & ~word);
    word |= mask;
    block = next;
  }
}

size_t BlockSet::MemoryBytes() const {
  return chunk_count_ * sizeof(Chunk) + chunks_.capacity() * sizeof(chunks_[0]);
}

void BlockSet::RemoveFrom(int64_t first) {
  const auto keep = static_cast<size_t>((first + kChunkBlocks - 1) / kChunkBlocks);
  if (keep < chunks_.size()) chunks_.resize(keep);
  const int64_t end = static_cast<int64_t>(chunks_.size()) * kChunkBlocks;
  for (int64_t block = first; block < end;) {
    const auto chunk = static_cast<size_t>(block / kChunkBlocks);
    if (chunks_[chunk] == nullptr) break;
    uint64_t& word = (*chunks_[chunk])[static_cast<size_t>(block % kChunkBlocks / 64)];
    word &= (uint64_t{1} << (block % 64)) - 1;
    block = (block / 64 + 1) * 64;
  }
  size_ = 0;
  chunk_count_ = 0;
  for (const auto& chunk : chunks_) {
    if (chunk == nullptr) continue;
    ++chunk_count_;
    for (uint64_t word : *chunk) size_ += std::popcount(word);
  }
}

int64_t BlockSet::End() const {
  for (size_t chunk = chunks_.size(); chunk-- > 0;) {
    if (chunks_[chunk] == nullptr) continue;
    for (size_t word = kChunkWords; word-- > 0;) {
      const uint64_t bits = (*chunks_[chunk])[word];
      if (bits == 0) continue;
      return static_cast<int64_t>(chunk) * kChunkBlocks + static_cast<int64_t>(word) * 64 + 64 -
             std::countl_zero(bits);
    }
  }
  return 0;
}

std::pair<int64_t, int64_t> BlockSet::NextRun(int64_t from, int64_t limit) const {
  limit = std::min(limit, std::max(from, End()));
  int64_t first = from;
  while (first < limit && !Contains(first)) {
    // Whole empty words are skipped at once.
    first = WordOf(first) >> (first % 64) == 0 ? (first / 64 + 1) * 64 : first + 1;
  }
  if (first >= limit) return {limit, 0};
  return {first, CountSame(first, limit - first)};
}

int64_t BlockSet::CountSame(int64_t from, int64_t limit) const {
  if (limit <= 0) return 0;
  const bool wanted = Contains(from);
  const uint64_t uniform = wanted ? ~uint64_t{0} : 0;
  int64_t block = from + 1;
  while (block < from + limit) {
    if (block % 64 == 0 && block + 64 <= from + limit && WordOf(block) == uniform) {
      block += 64;
    } else if (Contains(block) == wanted) {
      ++block;
    } else {
      break;
    }
  }
  return std::min(block, from + limit) - from;
}

}  // namespace pbkfs
