// Tells whoever owns a thread that it waits for a disk or for another operation, so that others
// can be served meanwhile.
#ifndef PBKFS_FS_BASE_BLOCKING_H_
#define PBKFS_FS_BASE_BLOCKING_H_

namespace pbkfs {

class BlockingObserver {
 public:
  virtual ~BlockingObserver() = default;
  // Called by the thread that is about to wait, and after it has.
  virtual void BeginBlocking() = 0;
  virtual void EndBlocking() = 0;
};

// Who is told about this thread; null = nobody. It outlives the thread's last BlockingScope.
inline thread_local BlockingObserver* blocking_observer = nullptr;

// Around everything that may wait for long. Scopes nest; the outermost one counts.
class BlockingScope {
 public:
  BlockingScope() {
    if (depth_++ == 0 && blocking_observer != nullptr) blocking_observer->BeginBlocking();
  }
  ~BlockingScope() {
    if (--depth_ == 0 && blocking_observer != nullptr) blocking_observer->EndBlocking();
  }
  BlockingScope(const BlockingScope&) = delete;
  BlockingScope& operator=(const BlockingScope&) = delete;

 private:
  static inline thread_local int depth_ = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_BASE_BLOCKING_H_
