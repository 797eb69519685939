// The ordering engine of a mount: a FIFO range lock per inode with numbered tickets.
//
// A ticket is drawn when a request arrives, before any work. A mutation runs after every
// conflicting mutation with a lower number; a reader waits for conflicting mutations with lower
// numbers and for none with higher ones: a read between WRITE1 and WRITE2 sees WRITE1 and never
// waits for WRITE2. The holder of a ticket never waits for anything that a waiter holds. It orders;
// it never holds data.
//
// A Queue belongs to its inode and must not outlive the PendingOps whose figures it counts.
#ifndef PBKFS_FS_OVERLAY_PENDING_OPS_H_
#define PBKFS_FS_OVERLAY_PENDING_OPS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <list>
#include <optional>
#include <utility>
#include <vector>

#include "fs/base/mutex.h"

namespace pbkfs {

enum class PendingRole : uint8_t {
  kMutation,    // WRITE, FALLOCATE, changes of size; of an empty range: changes of names.
  kReader,      // READ.
  kSizeReader,  // GETATTR: waits only for earlier changes of size.
  kBarrier,     // FSYNC, FLUSH: waits for all earlier mutations, delays none.
  kFill,        // A copy of what is there already: waits for nobody; only mutations wait for it.
};

// Bytes [begin, end) of a file.
struct ByteRange {
  int64_t begin = 0;
  int64_t end = std::numeric_limits<int64_t>::max();
  bool Overlaps(const ByteRange& other) const { return begin < other.end && other.begin < end; }
};

// Upper bounds in seconds of the buckets that waits are counted in.
inline constexpr std::array<double, 7> kWaitBounds = {0.00001, 0.0001, 0.001, 0.01, 0.1, 1, 10};

struct PendingFigures {
  uint64_t operations = 0;  // Tickets that are drawn and not released.
  uint64_t inodes = 0;      // Inodes that have such tickets.
  uint64_t waits = 0;       // Tickets that had to wait.
  int64_t wait_nanoseconds = 0;
  // How long, by kWaitBounds; not cumulative, and one more for longer waits.
  std::array<uint64_t, kWaitBounds.size() + 1> wait_buckets{};
};

// The waits so far. All zeros is a valid state, so that it can lie in memory that outlives the
// process.
struct PendingCounters {
  std::atomic<uint64_t> waits{0};
  std::atomic<int64_t> wait_nanoseconds{0};
  std::array<std::atomic<uint64_t>, kWaitBounds.size() + 1> wait_buckets{};
};

class PendingOps;

// The tickets of one inode.
class PendingQueue {
 public:
  PendingQueue() = default;
  PendingQueue(const PendingQueue&) = delete;
  PendingQueue& operator=(const PendingQueue&) = delete;

 private:
  friend class PendingOps;
  friend class Ticket;
  struct Entry {
    PendingRole role;
    ByteRange range;
    bool resizes;
  };
  // Whether a ticket changes the size, so that the size which later ones will meet is not known.
  bool Resizing() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  CondVar released_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // In the order of arrival.
  int waiters_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A drawn ticket; released by the destructor.
class Ticket {
 public:
  Ticket(Ticket&& other) noexcept
      : ops_(other.ops_), queue_(std::exchange(other.queue_, nullptr)), entry_(other.entry_) {}
  Ticket& operator=(Ticket&&) = delete;
  ~Ticket();

  // Returns when the operation may run.
  void Wait();

 private:
  friend class PendingOps;
  Ticket(PendingOps* ops, PendingQueue* queue, std::list<PendingQueue::Entry>::iterator entry)
      : ops_(ops), queue_(queue), entry_(entry) {}

  PendingOps* ops_;
  PendingQueue* queue_;
  std::list<PendingQueue::Entry>::iterator entry_;
};

class PendingOps {
 public:
  // Counts waits in `counters`, which outlives this object; null = its own.
  explicit PendingOps(PendingCounters* counters = nullptr)
      : counters_(counters == nullptr ? own_counters_ : *counters) {}

  // Draws the next ticket of `queue`. Does not wait.
  Ticket Draw(PendingQueue& queue, PendingRole role, ByteRange range);

  // Draws a mutation of `range`, the blocks of a write that ends at byte `end`. It changes the size
  // where `end` lies past `size`; it then conflicts with everything past the smaller size.
  Ticket DrawWrite(PendingQueue& queue, ByteRange range, int64_t end,
                   const std::atomic<int64_t>& size);
  // Draws a change of size to `new_size`.
  Ticket DrawResize(PendingQueue& queue, int64_t new_size, const std::atomic<int64_t>& size);

  // Draws the ticket of a fill of `range`, which may run at once; nothing where a mutation of the
  // range is drawn already.
  std::optional<Ticket> TryDrawFill(PendingQueue& queue, ByteRange range);

  // Draws one ticket in each queue in one step: an operation on names. Only barriers wait for them.
  // Two such operations get their tickets in the same order everywhere.
  std::vector<Ticket> DrawForNames(const std::vector<PendingQueue*>& queues)
      ABSL_LOCKS_EXCLUDED(names_mutex_);

  PendingFigures Figures() const;

 private:
  friend class Ticket;
  void CountWait(int64_t nanoseconds);
  Ticket DrawLocked(PendingQueue& queue, PendingRole role, ByteRange range, bool resizes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(queue.mutex_);

  Mutex names_mutex_;
  std::atomic<uint64_t> operations_{0};
  std::atomic<uint64_t> inodes_{0};
  PendingCounters own_counters_;
  PendingCounters& counters_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_OVERLAY_PENDING_OPS_H_
