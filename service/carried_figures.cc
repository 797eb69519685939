#include "service/carried_figures.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include "service/proto_convert.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

constexpr char kMagic[8] = {'P', 'B', 'K', 'F', 'S', 'F', 'I', 'G'};
constexpr uint32_t kVersion = 1;
constexpr size_t kCopyBytes = 64 << 10;

using Counts = google::protobuf::Map<std::string, uint64_t>;
using Durations = google::protobuf::Map<std::string, v1::DurationHistogram>;

void Add(const Counts& from, Counts* to) {
  for (const auto& [key, count] : from) (*to)[key] += count;
}

void Add(const Durations& from, Durations* to) {
  for (const auto& [key, durations] : from) AddDurations(durations, &(*to)[key]);
}

void AddCounters(const v1::DaemonStats& from, v1::DaemonStats* to) {
  to->set_page_index_builds(to->page_index_builds() + from.page_index_builds());
  to->set_page_index_hits(to->page_index_hits() + from.page_index_hits());
  to->set_page_index_misses(to->page_index_misses() + from.page_index_misses());
  to->set_page_index_evictions(to->page_index_evictions() + from.page_index_evictions());
  to->set_page_index_scans(to->page_index_scans() + from.page_index_scans());
  to->set_page_cache_evictions(to->page_cache_evictions() + from.page_cache_evictions());
  Add(from.decoded_pages(), to->mutable_decoded_pages());
  Add(from.rpc_requests(), to->mutable_rpc_requests());
  Add(from.rpc_durations(), to->mutable_rpc_durations());
  AddDurations(from.mount_durations(), to->mutable_mount_durations());
  Add(from.fuse_request_durations(), to->mutable_fuse_request_durations());
}

}  // namespace

struct CarriedFigures::Memory {
  struct Copy {
    uint32_t length;
    char bytes[kCopyBytes - sizeof(uint32_t)];
  };
  char magic[sizeof(kMagic)];
  uint32_t version;
  std::atomic<uint32_t> current;
  Copy copies[2];

  bool IsOurs() const {
    return memcmp(magic, kMagic, sizeof(kMagic)) == 0 && version == kVersion && current < 2;
  }
};

CarriedFigures::CarriedFigures(const UniqueFd& memory) {
  if (!memory.valid()) return;
  struct stat attributes;
  const bool whole = fstat(memory.get(), &attributes) == 0 && attributes.st_size == sizeof(Memory);
  if (!whole && (ftruncate(memory.get(), 0) != 0 || ftruncate(memory.get(), sizeof(Memory)) != 0)) {
    spdlog::warn("counters of the daemon begin again when the worker dies: ftruncate: {}",
                 strerror(errno));
    return;
  }
  void* base = mmap(nullptr, sizeof(Memory), PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (base == MAP_FAILED) {
    spdlog::warn("counters of the daemon begin again when the worker dies: mmap: {}",
                 strerror(errno));
    return;
  }
  memory_ = static_cast<Memory*>(base);
  if (!memory_->IsOurs()) {
    memset(base, 0, sizeof(Memory));
    memcpy(memory_->magic, kMagic, sizeof(kMagic));
    memory_->version = kVersion;
  }
  const Memory::Copy& copy = memory_->copies[memory_->current];
  if (copy.length > sizeof(copy.bytes) ||
      !earlier_.ParseFromArray(copy.bytes, static_cast<int>(copy.length))) {
    earlier_.Clear();
  }
}

CarriedFigures::~CarriedFigures() {
  if (memory_ != nullptr) munmap(memory_, sizeof(Memory));
}

void CarriedFigures::AddEarlier(v1::DaemonStats* daemon) {
  if (memory_ == nullptr) return;
  AddCounters(earlier_, daemon);
  v1::DaemonStats counters;
  AddCounters(*daemon, &counters);
  Keep(counters);
}

void CarriedFigures::Keep(const v1::DaemonStats& counters) {
  const uint32_t other = 1 - memory_->current;
  Memory::Copy& copy = memory_->copies[other];
  const size_t length = counters.ByteSizeLong();
  if (length > sizeof(copy.bytes)) return;  // Methods, codes and operations are far from that many.
  copy.length = static_cast<uint32_t>(length);
  if (counters.SerializeToArray(copy.bytes, sizeof(copy.bytes))) memory_->current = other;
}

}  // namespace pbkfs
