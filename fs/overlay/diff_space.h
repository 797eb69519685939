// The budget of a diff that may take only so many bytes. What an operation may need is taken before
// it runs, so that no number of threads goes past the limit together; afterwards what its data file
// really takes is put in the place of that. Thread-safe.
#ifndef PBKFS_FS_OVERLAY_DIFF_SPACE_H_
#define PBKFS_FS_OVERLAY_DIFF_SPACE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace pbkfs {

class DiffSpace {
 public:
  // 0 = no limit.
  explicit DiffSpace(int64_t limit) : limit_(limit) {}

  bool limited() const { return limit_ > 0; }
  int64_t limit() const { return limit_; }
  // `other` is what the log takes.
  int64_t Left(int64_t other) const {
    return std::max<int64_t>(0, limit_ - used_.load(std::memory_order_relaxed) - other);
  }
  // Takes `bytes`; false, and nothing taken, where that would go past the limit.
  bool Take(int64_t bytes, int64_t other) {
    if (used_.fetch_add(bytes, std::memory_order_relaxed) + bytes + other <= limit_) return true;
    Adjust(-bytes);
    return false;
  }
  void Adjust(int64_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }

 private:
  const int64_t limit_;
  std::atomic<int64_t> used_{0};  // Allocated bytes of data files, and what is taken.
};

}  // namespace pbkfs

#endif  // PBKFS_FS_OVERLAY_DIFF_SPACE_H_
