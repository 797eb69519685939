#include "service/mount_probe.h"

#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fs/base/status.h"
#include "service/limits.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

constexpr char kProbedFile[] = "global/pg_control";

absl::Status CheckServable(Overlay& overlay, const Chain& chain) {
  PBKFS_RETURN_IF_ERROR(overlay.ReadFile(kProbedFile, kMaxConfigFileBytes).status());
  PBKFS_RETURN_IF_ERROR(overlay.health());
  // A running server has its own pg_control in the diff; the backup below may be gone all the same.
  for (size_t i = 0; i < chain.members.size(); ++i) {
    PBKFS_RETURN_IF_ERROR(chain.CheckUnchanged(i));
  }
  return absl::OkStatus();
}

}  // namespace

MountProbe::MountProbe(std::string mount_id, Overlay& overlay, const Chain& chain,
                       std::function<FuseFigures()> requests)
    : id_(std::move(mount_id)), overlay_(overlay), chain_(chain), requests_(std::move(requests)) {
  Probe();
  probe_ = std::thread([this] {
    while (next_probe_.WaitFor(kHealthProbePeriod)) Probe();
  });
  watch_ = std::thread([this] { WatchRequests(); });
}

void MountProbe::Stop() {
  next_probe_.Stop();
  next_look_.Stop();
  if (probe_.joinable()) probe_.join();
  if (watch_.joinable()) watch_.join();
}

bool MountProbe::Healthy() const {
  MutexLock lock(&mutex_);
  return ok_ && std::chrono::steady_clock::now() - time_ < kHealthProbeOverdue;
}

void MountProbe::Probe() {
  const absl::Status status = CheckServable(overlay_, chain_);
  MutexLock lock(&mutex_);
  if (ok_ && !status.ok()) {
    spdlog::error("{}: health is NOT_SERVING: {}", id_, std::string(status.message()));
  } else if (!ok_ && status.ok()) {
    spdlog::info("{}: health is SERVING again", id_);
  }
  ok_ = status.ok();
  time_ = std::chrono::steady_clock::now();
}

void MountProbe::WatchRequests() {
  absl::Time next_report = absl::InfinitePast();
  while (next_look_.WaitFor(kHealthProbePeriod)) {
    const FuseFigures figures = requests_();
    if (figures.oldest_age < kOldRequest || absl::Now() < next_report) continue;
    next_report = absl::Now() + kOldRequestReportPeriod;
    spdlog::warn("{}: a request is in flight for {}: {} of inode {}", id_,
                 absl::FormatDuration(absl::Trunc(figures.oldest_age, absl::Seconds(1))),
                 figures.oldest_op, figures.oldest_ino);
  }
}

}  // namespace pbkfs
