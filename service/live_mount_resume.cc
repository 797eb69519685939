// A mount goes on after the process that served it died.
#include <fcntl.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/overlay/takeover.h"
#include "fs/session/handle_table.h"
#include "service/live_mount.h"
#include "service/path_policy.h"
#include "spdlog/spdlog.h"

namespace pbkfs {

absl::StatusOr<std::shared_ptr<LiveMount>> LiveMount::Resume(const v1::MountRecord& record,
                                                             HeldMount held, ImageRegistry& images,
                                                             const MountEnvironment& environment) {
  const bool lost = held.Has(kHeldFailed);
  std::string failure = held.reason;
  MountPlan plan;
  absl::StatusOr<MountPlan> again = lost ? absl::AbortedError(failure) : PlanAgain(record, images);
  if (again.ok()) {
    plan = *std::move(again);
  } else {
    failure = std::string(again.status().message());
    plan.request = record.request();
    plan.where.paths = {record.store_path(), record.target_path(), record.diff_path()};
    plan.mount = record.mount();
    held.descriptors[HeldMount::kFuse].Reset();
  }
  const bool unmounted = held.Has(kHeldUnmounted);
  std::shared_ptr<LiveMount> mount(new LiveMount(std::move(plan), environment));
  mount->opened_diff_ = true;
  mount->made_target_ = record.made_target();
  mount->half_unmounted_ = unmounted;
  mount->unmounting_ = held.Has(kHeldUnmounting);
  mount->mounted_ = !unmounted;
  mount->intention_ = record.unmounting();
  absl::Status status = again.status();
  if (status.ok()) {
    status = mount->TakeOver(std::move(held));
    failure = std::string(status.message());
  }
  if (status.ok()) {
    mount->SetState(v1::MOUNT_STATE_ACTIVE, "");
    return mount;
  }
  {
    WriterLock lock(&mount->objects_mutex_);
    mount->overlay_.reset();
  }
  if (absl::IsUnimplemented(status) && !lost) {
    mount->mounted_ = false;  // It lives on, but not here.
    return Annotate(status, absl::StrCat("mount ", mount->id()));
  }
  spdlog::error("mount {} can't go on: {}", mount->id(), failure);
  mount->failed_ = true;
  mount->failure_ = failure;
  mount->SetState(v1::MOUNT_STATE_FAILED, failure);
  // The descriptors were closed above: the keeper's is the last.
  if (!lost && !unmounted) environment.keeper.EndConnection(mount->id(), failure).IgnoreError();
  return mount;
}

absl::Status LiveMount::TakeOver(HeldMount held) {
  PBKFS_ASSIGN_OR_RETURN(memory_,
                         SessionMemory::Map(std::move(held.descriptors[HeldMount::kMemory])));
  fuse_protocol_ = FuseSession::KernelProtocol(*memory_);
  const std::string& path = paths().diff;
  PBKFS_ASSIGN_OR_RETURN(
      std::unique_ptr<DiffStore> diff,
      DiffStore::TakeOver(environment_.io,
                          AdoptDirectory(std::move(held.descriptors[HeldMount::kDirectory]), path),
                          path, plan_.identity));
  OverlayOptions options = OptionsOfOverlay();
  Takeover& takeover = options.takeover.emplace();
  takeover.session_nonce = memory_->session_nonce();
  takeover.sync_failed = memory_->sync_failed();
  takeover.witness = AdoptDirectory(std::move(held.descriptors[HeldMount::kWitness]), path);
  // Whoever unmounted it saw that nothing is open.
  if (!half_unmounted_) takeover.open_inodes = HandleTable(memory_->handles()).Inodes();
  PBKFS_ASSIGN_OR_RETURN(std::unique_ptr<Overlay> overlay,
                         Overlay::Create(plan_.image, std::move(diff), options));
  {
    WriterLock lock(&objects_mutex_);
    overlay_ = std::move(overlay);
    if (half_unmounted_) return absl::OkStatus();
    PBKFS_ASSIGN_OR_RETURN(
        session_, FuseSession::Start(std::move(held.descriptors[HeldMount::kFuse]), overlay_.get(),
                                     memory_.get(), OptionsOfSession()));
  }
  if (std::optional<MountInfoEntry> info = FindPbkfsAt(paths().target)) mount_info_ = *info;
  StartProbe();
  return absl::OkStatus();
}

bool LiveMount::still_mounted() const {
  MutexLock lock(&state_mutex_);
  return mounted_ || state_ == v1::MOUNT_STATE_ACTIVE;
}

void LiveMount::SetCatalogLock(std::unique_ptr<CatalogLock> lock) {
  MutexLock guard(&state_mutex_);
  if (state_ == v1::MOUNT_STATE_ACTIVE) catalog_lock_ = std::move(lock);
}

}  // namespace pbkfs
