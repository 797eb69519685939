#include "service/live_mount.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "fs/base/status.h"
#include "service/keeper/mounter.h"
#include "service/limits.h"
#include "service/mount_users.h"
#include "service/proto_convert.h"
#include "service/recovery_settings.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

constexpr char kMainConfig[] = "postgresql.conf";
constexpr char kAutoConfig[] = "postgresql.auto.conf";
constexpr char kProbedFile[] = "global/pg_control";

std::optional<MountInfoEntry> FindMountAt(const std::string& target) {
  const absl::StatusOr<std::vector<MountInfoEntry>> mounts = ReadMountInfo();
  if (!mounts.ok()) return std::nullopt;
  std::optional<MountInfoEntry> found;
  // The last one covers the others.
  for (const MountInfoEntry& mount : *mounts) {
    if (mount.mount_point == target && mount.IsPbkfs()) found = mount;
  }
  return found;
}

// Ends the connection behind a mount, so that whoever uses it gets errors and its session ends.
// Without fusectl this does nothing; the end of the session ends the connection then.
void AbortConnection(const MountInfoEntry& mount) {
  const size_t colon = mount.device.find(':');
  if (colon == std::string::npos) return;
  const std::string path =
      absl::StrCat("/sys/fs/fuse/connections/", mount.device.substr(colon + 1), "/abort");
  std::ofstream file(path);
  file << "1";
}

// The diff's own words for a full disk.
absl::Status DiffError(absl::Status status) {
  if (IsNoSpace(status)) {
    status = WithReason(std::move(status), reason::kDiffSpace);
  }
  return status;
}

}  // namespace

LiveMount::LiveMount(MountPlan plan, Io& io) : plan_(std::move(plan)), io_(io) {
  catalog_lock_ = std::move(plan_.lock);
}

LiveMount::~LiveMount() {
  assert(!mounted_);
  assert(!probe_.joinable());
}

absl::StatusOr<std::shared_ptr<LiveMount>> LiveMount::Create(MountPlan plan, Io& io) {
  const absl::Time start = absl::Now();
  std::shared_ptr<LiveMount> mount(new LiveMount(std::move(plan), io));
  if (absl::Status status = mount->Build(); !status.ok()) {
    mount->Abandon();
    return status;
  }
  mount->build_time_ = absl::Now() - start;
  ToProto(absl::Now(), mount->plan_.mount.mutable_create_time());
  mount->SetState(v1::MOUNT_STATE_ACTIVE, "");
  return mount;
}

absl::Status LiveMount::Build() {
  PBKFS_RETURN_IF_ERROR(DiffError(OpenDiff()));
  PBKFS_RETURN_IF_ERROR(MakeTarget());
  FuseMountOptions mount_options;
  mount_options.target = paths().target;
  mount_options.mount_id = id();
  mount_options.read_only = plan_.request.read_only();
  PBKFS_ASSIGN_OR_RETURN(UniqueFd fuse, MountFuse(mount_options));
  mounted_ = true;
  if (std::optional<MountInfoEntry> info = FindMountAt(paths().target)) mount_info_ = *info;
  SessionOptions options;
  options.threads = static_cast<int>(plan_.request.threads());
  options.mount_id = id();
  {
    WriterLock lock(&objects_mutex_);
    PBKFS_ASSIGN_OR_RETURN(session_, FuseSession::Start(std::move(fuse), overlay_.get(), options));
  }
  StartProbe();
  return absl::OkStatus();
}

absl::Status LiveMount::OpenDiff() {
  opened_diff_ = true;
  PBKFS_ASSIGN_OR_RETURN(std::unique_ptr<DiffStore> diff,
                         DiffStore::Open(io_, paths().diff, plan_.identity));
  const bool prepared = diff->prepared();
  if (prepared) {
    // A diff keeps the settings that it was made with; those of the request come last.
    SettingList settings = ParseSettings(diff->guards());
    const std::map<std::string, std::string> requested(plan_.request.settings().begin(),
                                                       plan_.request.settings().end());
    settings.erase(
        std::remove_if(settings.begin(), settings.end(),
                       [&](const auto& setting) { return requested.count(setting.first) > 0; }),
        settings.end());
    settings.insert(settings.end(), requested.begin(), requested.end());
    plan_.settings = std::move(settings);
  }
  OverlayOptions options;
  // A diff that is not prepared is written once more; the kernel refuses everybody else's writes.
  options.read_only = plan_.request.read_only() && prepared;
  options.materialize_on_read = plan_.request.materialize_on_read();
  options.diff_limit_bytes = plan_.request.diff_limit_bytes();
  options.side_tree = plan_.side_tree;
  PBKFS_ASSIGN_OR_RETURN(std::unique_ptr<Overlay> overlay,
                         Overlay::Create(plan_.image, std::move(diff), options));
  absl::Status status = prepared ? DropRecoveryThatIsDone(*overlay) : PrepareClone(*overlay);
  if (status.ok()) status = overlay->diff_store().MarkEphemeral(plan_.request.ephemeral());
  plan_.mount.set_start_command(
      StartCommand(plan_.request.target(), plan_.mount.server_version(), plan_.settings));
  WriterLock lock(&objects_mutex_);
  overlay_ = std::move(overlay);
  return status;
}

// A server removes the signal file when it is promoted. Started again, it needs no recovery.
absl::Status LiveMount::DropRecoveryThatIsDone(Overlay& overlay) {
  if (!plan_.recovery.has_value()) return absl::OkStatus();
  const absl::Status signal = overlay.ReadFile(kRecoverySignal, kMaxConfigFileBytes).status();
  if (!absl::IsNotFound(signal)) return signal;
  plan_.recovery.reset();
  plan_.mount.clear_recovery();
  plan_.settings = WithoutRecovery(plan_.settings);
  return absl::OkStatus();
}

absl::Status LiveMount::PrepareClone(Overlay& overlay) {
  const std::map<std::string, std::string> requested(plan_.request.settings().begin(),
                                                     plan_.request.settings().end());
  PBKFS_RETURN_IF_ERROR(CheckCloneIsSafe(plan_.config, requested));
  for (const DefaultFile& file : plan_.default_files) {
    PBKFS_RETURN_IF_ERROR(overlay.WriteFile(file.path, file.content, 0600));
  }
  const absl::StatusOr<std::string> main_config =
      overlay.ReadFile(kMainConfig, kMaxConfigFileBytes);
  if (main_config.ok()) {
    PBKFS_RETURN_IF_ERROR(
        overlay.WriteFile(kMainConfig, AppendToMainConfig(*main_config, plan_.settings), 0600));
  } else if (!absl::IsNotFound(main_config.status())) {
    return main_config.status();
  }
  absl::StatusOr<std::string> auto_config = overlay.ReadFile(kAutoConfig, kMaxConfigFileBytes);
  if (absl::IsNotFound(auto_config.status())) auto_config = std::string();
  PBKFS_RETURN_IF_ERROR(auto_config.status());
  PBKFS_RETURN_IF_ERROR(
      overlay.WriteFile(kAutoConfig, RewriteAutoConfig(*auto_config, plan_.settings), 0600));
  if (plan_.recovery.has_value()) {
    PBKFS_RETURN_IF_ERROR(overlay.WriteFile(kRecoverySignal, "", 0600));
  }
  return overlay.diff_store().MarkPrepared(FormatSettings(plan_.settings));
}

absl::Status LiveMount::MakeTarget() {
  if (plan_.where.target_exists) return absl::OkStatus();
  const std::string& target = paths().target;
  if (mkdir(target.c_str(), 0700) != 0) {
    return WithField(ErrnoError(errno, absl::StrCat("making the target ", target)), "target");
  }
  made_target_ = true;
  const v1::Owner& owner = plan_.mount.owner();
  if (chown(target.c_str(), owner.uid(), owner.gid()) != 0) {
    return WithField(ErrnoError(errno, absl::StrCat("giving ", target, " to its owner")), "target");
  }
  return absl::OkStatus();
}

void LiveMount::Abandon() {
  StopProbe();
  if (mounted_) {
    // The session, if there is one, has no users yet; without one its descriptor is closed already.
    if (absl::Status status = DetachFuse(paths().target); !status.ok()) {
      spdlog::error("{}: undoing a mount: {}", id(), std::string(status.message()));
    }
    mounted_ = false;
  }
  {
    WriterLock lock(&objects_mutex_);
    if (session_ != nullptr) session_->Join();
    session_.reset();
    if (overlay_ != nullptr) overlay_->Close().IgnoreError();
    overlay_.reset();
  }
  RemoveTarget();
  if (!opened_diff_ || !plan_.diff_is_new) return;
  const std::string& diff = paths().diff;
  if (access(diff.c_str(), F_OK) == 0) {
    if (absl::Status status = DiffStore::Delete(io_, diff);
        !status.ok() && rmdir(diff.c_str()) != 0) {
      spdlog::warn("{}: the new diff {} stays behind: {}", id(), diff,
                   std::string(status.message()));
    }
  }
  // An empty directory that was there before is there again.
  if (plan_.diff_exists) io_.MakeDir(diff, 0700).IgnoreError();
}

v1::Mount LiveMount::Describe() const {
  v1::Mount mount = plan_.mount;
  bool alive = true;
  {
    ReaderLock lock(&objects_mutex_);
    if (session_ != nullptr) alive = session_->alive();
  }
  MutexLock lock(&state_mutex_);
  mount.set_state(state_);
  mount.set_state_reason(state_reason_);
  mount.set_catalog_locked(catalog_lock_ != nullptr && catalog_lock_->held());
  if (state_ == v1::MOUNT_STATE_ACTIVE && !alive) {
    mount.set_state(v1::MOUNT_STATE_FAILED);
    mount.set_state_reason(
        "the mount point was unmounted or aborted from outside; unmount it with "
        "pbkfs, and mount again");
  }
  return mount;
}

std::optional<MountFigures> LiveMount::Figures() const {
  ReaderLock lock(&objects_mutex_);
  if (overlay_ == nullptr || session_ == nullptr) return std::nullopt;
  MountFigures figures;
  figures.io = overlay_->io();
  figures.pending = overlay_->pending();
  if (absl::StatusOr<DiffFigures> diff = overlay_->diff(); diff.ok()) figures.diff = *diff;
  figures.fuse = session_->Figures();
  return figures;
}

bool LiveMount::Healthy() const {
  {
    ReaderLock lock(&objects_mutex_);
    if (session_ == nullptr || !session_->alive()) return false;
  }
  MutexLock lock(&state_mutex_);
  const auto age = std::chrono::steady_clock::now() - probe_time_;
  return state_ == v1::MOUNT_STATE_ACTIVE && probe_ok_ && age < kHealthProbeOverdue;
}

void LiveMount::SetState(v1::MountState state, std::string reason) {
  MutexLock lock(&state_mutex_);
  state_ = state;
  state_reason_ = std::move(reason);
}

void LiveMount::StartProbe() {
  Overlay* overlay = nullptr;
  {
    ReaderLock lock(&objects_mutex_);
    overlay = overlay_.get();
  }
  // The first one right away, so that a mount is healthy when it is answered. The overlay stays
  // until StopProbe has returned.
  RecordProbe(CheckServable(overlay));
  probe_ = std::thread([this, overlay] { Probe(overlay); });
}

void LiveMount::StopProbe() {
  {
    MutexLock lock(&state_mutex_);
    stop_probe_ = true;
    probe_wakeup_.SignalAll();
  }
  if (probe_.joinable()) probe_.join();
}

absl::Status LiveMount::CheckServable(Overlay* overlay) const {
  PBKFS_RETURN_IF_ERROR(overlay->ReadFile(kProbedFile, kMaxConfigFileBytes).status());
  PBKFS_RETURN_IF_ERROR(overlay->health());
  // A running server has its own pg_control in the diff; the backup below may be gone all the same.
  const Chain& chain = plan_.image->chain();
  for (size_t i = 0; i < chain.members.size(); ++i) {
    PBKFS_RETURN_IF_ERROR(chain.CheckUnchanged(i));
  }
  return absl::OkStatus();
}

void LiveMount::Probe(Overlay* overlay) {
  while (true) {
    {
      MutexLock lock(&state_mutex_);
      const auto next = probe_time_ + kHealthProbePeriod;
      while (!stop_probe_ && std::chrono::steady_clock::now() < next) {
        probe_wakeup_.WaitFor(&state_mutex_, kHealthProbePeriod);
      }
      if (stop_probe_) return;
    }
    RecordProbe(CheckServable(overlay));
  }
}

void LiveMount::RecordProbe(const absl::Status& status) {
  MutexLock lock(&state_mutex_);
  if (probe_ok_ && !status.ok()) {
    spdlog::error("{}: health is NOT_SERVING: {}", id(), std::string(status.message()));
  } else if (!probe_ok_ && status.ok()) {
    spdlog::info("{}: health is SERVING again", id());
  }
  probe_ok_ = status.ok();
  probe_time_ = std::chrono::steady_clock::now();
}

absl::Status LiveMount::DetachTarget(const UnmountOptions& options) {
  const std::string& target = paths().target;
  const absl::Time deadline =
      absl::Now() + std::min(options.wait, absl::FromChrono(kMaxUnmountWait));
  if (!FindMountAt(target).has_value()) return WaitForSession(options, deadline);
  absl::Status status = UnmountFuse(target);
  while (!status.ok() && ErrnoOf(status) == EBUSY && absl::Now() < deadline &&
         !options.cancelled()) {
    std::this_thread::sleep_for(kUnmountRetryPeriod);
    status = UnmountFuse(target);
  }
  if (status.ok()) return WaitForSession(options, deadline);
  if (options.force) return DetachFuse(target);
  if (ErrnoOf(status) != EBUSY) return status;
  const std::vector<std::string> users = MountUsers(mount_info_);
  return WithField(
      ReasonError(
          absl::StatusCode::kFailedPrecondition, reason::kTargetBusy,
          absl::StrCat(target, " is in use",
                       users.empty() ? "" : absl::StrCat(" by ", absl::StrJoin(users, ", ")),
                       "; stop the server on it, wait for it with --wait, or detach it "
                       "with --force")),
      "target");
}

absl::Status LiveMount::WaitForSession(const UnmountOptions& options, absl::Time deadline) {
  FuseSession* session = nullptr;
  {
    // It stays until Unmount has waited for it.
    ReaderLock lock(&objects_mutex_);
    session = session_.get();
  }
  deadline = std::max(deadline, absl::Now() + absl::FromChrono(kDetachedGrace));
  while (session->alive() && absl::Now() < deadline && !options.cancelled()) {
    std::this_thread::sleep_for(kUnmountRetryPeriod);
  }
  if (!session->alive()) return absl::OkStatus();
  // The file system lives on: with a process that has files open on it, or only because another
  // mount namespace was made while it was mounted here, and has a copy of the mount.
  const std::vector<std::string> users = MountUsers(mount_info_);
  if (!users.empty() && !options.force) {
    return WithField(
        ReasonError(absl::StatusCode::kFailedPrecondition, reason::kTargetBusy,
                    absl::StrCat(paths().target, " is detached, but ", absl::StrJoin(users, ", "),
                                 " still uses it, perhaps through another mount namespace; stop "
                                 "the server on it, or use --force")),
        "target");
  }
  AbortConnection(mount_info_);
  session->Stop(absl::InfiniteFuture());
  return absl::OkStatus();
}

absl::StatusOr<UnmountResult> LiveMount::Unmount(const UnmountOptions& options) {
  SetState(v1::MOUNT_STATE_DRAINING, "");
  if (absl::Status status = DetachTarget(options); !status.ok()) {
    SetState(v1::MOUNT_STATE_ACTIVE, "");
    return Annotate(status, absl::StrCat("unmounting ", id()));
  }
  mounted_ = false;
  UnmountResult result;
  absl::Status status;
  StopProbe();
  // The session ends by itself now; others may look at the figures until it has.
  FuseSession* session = nullptr;
  {
    ReaderLock lock(&objects_mutex_);
    session = session_.get();
  }
  session->Join();
  std::unique_ptr<Overlay> overlay;
  {
    WriterLock lock(&objects_mutex_);
    result.fuse = session_->Figures();
    session_.reset();
    overlay = std::move(overlay_);
  }
  // Without the lock: it waits for the disk.
  status = overlay->Close();
  overlay.reset();
  ReleaseCatalog();
  RemoveTarget();
  if (options.delete_diff || plan_.request.ephemeral()) {
    absl::Status deleted = DiffStore::Delete(io_, paths().diff);
    result.diff_deleted = deleted.ok();
    // What a deleted diff could not write no longer matters.
    status = deleted;
  }
  if (!status.ok()) {
    SetState(v1::MOUNT_STATE_FAILED, std::string(status.message()));
    return Annotate(status, absl::StrCat(id(), " is unmounted, but its diff ", paths().diff,
                                         " is not as it should be"));
  }
  return result;
}

void LiveMount::ReleaseCatalog() {
  std::unique_ptr<CatalogLock> lock;
  {
    MutexLock guard(&state_mutex_);
    lock = std::move(catalog_lock_);
  }
}

void LiveMount::RemoveTarget() {
  if (!made_target_) return;
  if (rmdir(paths().target.c_str()) != 0) {
    spdlog::warn("{}: the target {} that was made for the mount stays behind: {}", id(),
                 paths().target, strerror(errno));
  }
  made_target_ = false;
}

}  // namespace pbkfs
