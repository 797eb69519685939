#include "fs/overlay/pending_ops.h"

#include <algorithm>
#include <chrono>

#include "fs/base/blocking.h"

namespace pbkfs {

bool PendingQueue::Resizing() const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [](const Entry& entry) { return entry.resizes; });
}

Ticket PendingOps::DrawLocked(PendingQueue& queue, PendingRole role, ByteRange range,
                              bool resizes) {
  operations_.fetch_add(1, std::memory_order_relaxed);
  if (queue.entries_.empty()) inodes_.fetch_add(1, std::memory_order_relaxed);
  queue.entries_.push_back({role, range, resizes});
  return Ticket(this, &queue, std::prev(queue.entries_.end()));
}

Ticket PendingOps::Draw(PendingQueue& queue, PendingRole role, ByteRange range) {
  MutexLock lock(&queue.mutex_);
  return DrawLocked(queue, role, range, /*resizes=*/false);
}

Ticket PendingOps::DrawWrite(PendingQueue& queue, ByteRange range, int64_t end,
                             const std::atomic<int64_t>& size) {
  MutexLock lock(&queue.mutex_);
  const int64_t current = size.load(std::memory_order_acquire);
  if (queue.Resizing()) return DrawLocked(queue, PendingRole::kMutation, {}, /*resizes=*/true);
  const bool resizes = end > current;
  if (resizes) range = {std::min(range.begin, current), ByteRange{}.end};
  return DrawLocked(queue, PendingRole::kMutation, range, resizes);
}

Ticket PendingOps::DrawResize(PendingQueue& queue, int64_t new_size,
                              const std::atomic<int64_t>& size) {
  MutexLock lock(&queue.mutex_);
  const int64_t smaller =
      queue.Resizing() ? 0 : std::min(new_size, size.load(std::memory_order_acquire));
  return DrawLocked(queue, PendingRole::kMutation, {smaller, ByteRange{}.end}, /*resizes=*/true);
}

std::optional<Ticket> PendingOps::TryDrawFill(PendingQueue& queue, ByteRange range) {
  MutexLock lock(&queue.mutex_);
  for (const PendingQueue::Entry& entry : queue.entries_) {
    if (entry.role == PendingRole::kMutation && range.Overlaps(entry.range)) return std::nullopt;
  }
  return DrawLocked(queue, PendingRole::kFill, range, /*resizes=*/false);
}

std::vector<Ticket> PendingOps::DrawForNames(const std::vector<PendingQueue*>& queues) {
  std::vector<Ticket> tickets;
  tickets.reserve(queues.size());
  MutexLock lock(&names_mutex_);
  for (PendingQueue* queue : queues) {
    tickets.push_back(Draw(*queue, PendingRole::kMutation, {0, 0}));
  }
  return tickets;
}

namespace {

template <typename Entry>
bool MustWaitFor(const Entry& later, const Entry& earlier) {
  // A fill writes the bytes that are there: a mutation must come after it, everybody else sees the
  // same with or without it.
  if (earlier.role == PendingRole::kFill) {
    return later.role == PendingRole::kMutation && later.range.Overlaps(earlier.range);
  }
  if (earlier.role != PendingRole::kMutation) return false;
  switch (later.role) {
    case PendingRole::kMutation:
    case PendingRole::kReader:
      return later.range.Overlaps(earlier.range);
    case PendingRole::kSizeReader:
      return earlier.resizes;
    case PendingRole::kBarrier:
      return true;
    case PendingRole::kFill:
      return false;
  }
  return true;
}

}  // namespace

void PendingOps::CountWait(int64_t nanoseconds) {
  counters_.waits.fetch_add(1, std::memory_order_relaxed);
  counters_.wait_nanoseconds.fetch_add(nanoseconds, std::memory_order_relaxed);
  const auto bound = std::lower_bound(kWaitBounds.begin(), kWaitBounds.end(),
                                      static_cast<double>(nanoseconds) * 1e-9);
  counters_.wait_buckets[static_cast<size_t>(bound - kWaitBounds.begin())].fetch_add(
      1, std::memory_order_relaxed);
}

void Ticket::Wait() {
  MutexLock lock(&queue_->mutex_);
  const auto blocked = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    for (auto earlier = queue_->entries_.begin(); earlier != entry_; ++earlier) {
      if (MustWaitFor(*entry_, *earlier)) return true;
    }
    return false;
  };
  if (!blocked()) return;
  const BlockingScope blocking;
  const auto began = std::chrono::steady_clock::now();
  ++queue_->waiters_;
  do {
    queue_->released_.Wait(&queue_->mutex_);
  } while (blocked());
  --queue_->waiters_;
  ops_->CountWait(std::chrono::nanoseconds(std::chrono::steady_clock::now() - began).count());
}

Ticket::~Ticket() {
  if (queue_ == nullptr) return;
  MutexLock lock(&queue_->mutex_);
  queue_->entries_.erase(entry_);
  ops_->operations_.fetch_sub(1, std::memory_order_relaxed);
  if (queue_->entries_.empty()) ops_->inodes_.fetch_sub(1, std::memory_order_relaxed);
  if (queue_->waiters_ > 0) queue_->released_.SignalAll();
}

PendingFigures PendingOps::Figures() const {
  PendingFigures figures;
  figures.operations = operations_.load(std::memory_order_relaxed);
  figures.inodes = inodes_.load(std::memory_order_relaxed);
  figures.waits = counters_.waits.load(std::memory_order_relaxed);
  figures.wait_nanoseconds = counters_.wait_nanoseconds.load(std::memory_order_relaxed);
  for (size_t i = 0; i < figures.wait_buckets.size(); ++i) {
    figures.wait_buckets[i] = counters_.wait_buckets[i].load(std::memory_order_relaxed);
  }
  return figures;
}

}  // namespace pbkfs
