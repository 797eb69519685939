// How much memory this process may use: what caches are sized by.
#ifndef PBKFS_FS_BASE_MEMORY_LIMIT_H_
#define PBKFS_FS_BASE_MEMORY_LIMIT_H_

#include <cstdint>
#include <string>

namespace pbkfs {

// The least of the physical memory and the limits of the process's cgroup and of all above it
// (version 2: memory.max; version 1: memory.limit_in_bytes), in bytes; 0 where nothing is known.
// `root` is put before /proc and /sys, for tests.
int64_t MemoryLimitBytes(const std::string& root = "");

// A share of that limit, at most `most`; `most` where the limit is not known.
int64_t MemoryShareBytes(int64_t limit_bytes, int64_t divisor, int64_t most);

}  // namespace pbkfs

#endif  // PBKFS_FS_BASE_MEMORY_LIMIT_H_
