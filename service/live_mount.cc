#include "service/live_mount.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "fs/base/plain_path.h"
#include "fs/base/status.h"
#include "fs/diff/diff_directory.h"
#include "fs/diff/page_cache_evidence.h"
#include "service/limits.h"
#include "service/proto_convert.h"
#include "service/recovery_settings.h"
#include "service/tablespace_links.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

constexpr char kMainConfig[] = "postgresql.conf";
constexpr char kAutoConfig[] = "postgresql.auto.conf";

// What has to stay open for another process to go on with the diff, in the order of HeldMount: its
// directory, the witness of its write-outs, its lock.
absl::StatusOr<std::vector<UniqueFd>> DescriptorsToHold(const DiffStore& diff) {
  std::vector<UniqueFd> held;
  held.emplace_back(fcntl(diff.directory_descriptor(), F_DUPFD_CLOEXEC, 0));
  held.emplace_back(fcntl(diff.witness_descriptor(), F_DUPFD_CLOEXEC, 0));
  held.emplace_back(fcntl(diff.lock_descriptor(), F_DUPFD_CLOEXEC, 0));
  for (const UniqueFd& fd : held) {
    if (!fd.valid()) return ErrnoError(errno, absl::StrCat("holding ", diff.path(), " open"));
  }
  return held;
}

}  // namespace

absl::Status RemoveDiff(Io& io, const std::string& diff) {
  const absl::Status deleted = DiffStore::Delete(io, diff);
  return ReasonOf(deleted) == reason::kDiffNotFound ? absl::OkStatus() : deleted;
}

void RemoveMadeDiff(Io& io, const v1::MountRecord& begun) {
  const std::string& diff = begun.diff_path();
  const absl::Status removed = DiffStore::DeleteMade(io, diff, begun.diff_maker());
  const std::string reason = ReasonOf(removed);
  // Somebody else uses it, or has used it.
  if (!removed.ok() && reason != reason::kDiffNotFound && reason != reason::kDiffInUse) {
    spdlog::warn("{}: the new diff {} stays behind: {}", begun.request().mount_id(), diff,
                 std::string(removed.message()));
  }
  if (begun.diff_directory_existed()) io.MakeDir(diff, 0700).IgnoreError();
}

LiveMount::LiveMount(MountPlan plan, const MountEnvironment& environment)
    : plan_(std::move(plan)), environment_(environment) {
  catalog_lock_ = std::move(plan_.lock);
}

LiveMount::~LiveMount() { assert(!mounted_); }

absl::StatusOr<std::shared_ptr<LiveMount>> LiveMount::Create(MountPlan plan,
                                                             const MountEnvironment& environment) {
  const absl::Time start = absl::Now();
  std::shared_ptr<LiveMount> mount(new LiveMount(std::move(plan), environment));
  if (absl::Status status = mount->Build(); !status.ok()) {
    mount->Abandon();
    return status;
  }
  mount->build_time_ = absl::Now() - start;
  mount->SetState(v1::MOUNT_STATE_ACTIVE, "");
  return mount;
}

absl::Status LiveMount::Build() {
  if (!plan_.made_again) PBKFS_RETURN_IF_ERROR(environment_.registry.Save(RecordOfBegun()));
  if (absl::Status status = OpenDiff(); !status.ok()) {
    return FieldOf(status).empty() ? DiffRefused(std::move(status), paths().diff) : status;
  }
  PBKFS_RETURN_IF_ERROR(MakeTarget());
  PBKFS_RETURN_IF_ERROR(MountTarget());
  FindProtection();
  ToProto(absl::Now(), plan_.mount.mutable_create_time());
  StartProbe();
  // Durable before the keeper promises anything: who is killed in between makes the mount again.
  PBKFS_RETURN_IF_ERROR(environment_.registry.Save(Record()));
  return environment_.keeper.Establish(id(), CanResend());
}

absl::Status LiveMount::MountTarget() {
  FuseMountOptions options;
  options.target = paths().target;
  options.mount_id = id();
  options.read_only = plan_.request.read_only();
  std::vector<int> descriptors = {memory_->descriptor()};
  for (const UniqueFd& fd : held_) descriptors.push_back(fd.get());
  PBKFS_ASSIGN_OR_RETURN(UniqueFd fuse, environment_.keeper.Mount(options, descriptors));
  held_.clear();
  mounted_ = true;
  if (std::optional<MountInfoEntry> info = FindPbkfsAt(paths().target)) mount_info_ = *info;
  WriterLock lock(&objects_mutex_);
  PBKFS_ASSIGN_OR_RETURN(session_, FuseSession::Start(std::move(fuse), overlay_.get(),
                                                      memory_.get(), OptionsOfSession()));
  return absl::OkStatus();
}

SessionOptions LiveMount::OptionsOfSession() const {
  SessionOptions options;
  options.threads = static_cast<int>(plan_.request.threads());
  options.mount_id = id();
  return options;
}

bool LiveMount::CanResend() const {
  // For tests of what happens with kernels before 6.9.
  return getenv("PBKFS_TEST_NO_RESEND") == nullptr && FuseSession::CanResend(*memory_);
}

void LiveMount::FindProtection() {
  fuse_protocol_ = FuseSession::KernelProtocol(*memory_);
  const bool full = environment_.keeper.outlives_worker() && CanResend();
  plan_.mount.set_restart_protection(full ? v1::RESTART_PROTECTION_FULL
                                          : v1::RESTART_PROTECTION_NONE);
  if (full) return;
  plan_.mount.add_warnings(
      environment_.keeper.outlives_worker()
          ? "no restart protection: this kernel can't send requests again (Linux 6.9 can), so the "
            "mount ends if the worker of pbkfsd dies"
          : "no restart protection: pbkfsd runs without a keeper, so the mount ends if it dies");
}

v1::MountRecord LiveMount::Record() const {
  v1::MountRecord record;
  *record.mutable_request() = plan_.request;
  *record.mutable_mount() = plan_.mount;
  record.set_store_path(paths().store);
  record.set_target_path(paths().target);
  record.set_diff_path(paths().diff);
  record.set_made_target(made_target_);
  record.set_boot_id(BootId());
  if (intention_.ByteSizeLong() > 0) *record.mutable_unmounting() = intention_;
  return record;
}

v1::MountRecord LiveMount::RecordOfBegun() const {
  v1::MountRecord record = Record();
  record.set_begun(true);
  record.set_made_target(!plan_.where.target_exists);
  record.set_made_diff(plan_.diff_is_new);
  record.set_diff_directory_existed(plan_.diff_directory_is_empty);
  record.set_diff_maker(maker_);
  return record;
}

OverlayOptions LiveMount::OptionsOfOverlay() {
  OverlayOptions options;
  options.read_only = plan_.request.read_only();
  options.materialize_on_read = plan_.request.materialize_on_read();
  options.diff_limit_bytes = plan_.request.diff_limit_bytes();
  options.side_tree = plan_.side_tree;
  options.stats = memory_->figures();
  options.pending_counters = memory_->pending_counters();
  options.sync_failed = [memory = memory_.get()] { memory->SetSyncFailed(); };
  options.log_failed = [memory = memory_.get()](bool failed) { memory->SetLogFailed(failed); };
  return options;
}

absl::Status LiveMount::OpenDiff() {
  opened_diff_ = true;
  PBKFS_ASSIGN_OR_RETURN(std::unique_ptr<DiffStore> diff,
                         DiffStore::Open(environment_.io, paths().diff, plan_.identity, maker_));
  const bool prepared = diff->prepared();
  // The plan is for something else where somebody made or deleted the diff since.
  if (prepared == plan_.diff_is_new) {
    plan_.diff_is_new = !prepared;
    if (!prepared) return DiffIsGone(paths().diff);
    return ReasonError(absl::StatusCode::kFailedPrecondition, reason::kDiffInUse,
                       absl::StrCat("another daemon made the diff ", paths().diff,
                                    " at this moment; try again, or choose another one"));
  }
  if (!prepared) PBKFS_RETURN_IF_ERROR(diff->StartOver());
  if (prepared) KeepSettingsOf(*diff);
  PBKFS_ASSIGN_OR_RETURN(memory_, SessionMemory::Create(RandomNonce()));
  OverlayOptions options = OptionsOfOverlay();
  options.session_nonce = memory_->session_nonce();
  options.read_only = false;  // Of what is written here.
  PBKFS_ASSIGN_OR_RETURN(std::unique_ptr<Overlay> overlay,
                         Overlay::Create(plan_.image, std::move(diff), options));
  PBKFS_ASSIGN_OR_RETURN(held_, DescriptorsToHold(overlay->diff_store()));
  absl::Status status = prepared ? DropRecoveryThatIsDone(*overlay) : PrepareClone(*overlay);
  if (status.ok() && prepared) status = MoveToTarget(*overlay);
  if (plan_.request.read_only()) overlay->MakeReadOnly();
  if (status.ok()) status = overlay->diff_store().MarkEphemeral(plan_.request.ephemeral());
  plan_.mount.set_start_command(
      StartCommand(plan_.request.target(), plan_.mount.server_version(), plan_.settings));
  WriterLock lock(&objects_mutex_);
  overlay_ = std::move(overlay);
  return status;
}

// A diff keeps the settings that it was made with; those of the request come last.
void LiveMount::KeepSettingsOf(const DiffStore& diff) {
  SettingList settings = ParseSettings(diff.guards());
  const std::map<std::string, std::string> requested(plan_.request.settings().begin(),
                                                     plan_.request.settings().end());
  settings.erase(
      std::remove_if(settings.begin(), settings.end(),
                     [&](const auto& setting) { return requested.count(setting.first) > 0; }),
      settings.end());
  settings.insert(settings.end(), requested.begin(), requested.end());
  plan_.settings = std::move(settings);
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

// What is known of the targets before is forgotten when no link leads to them any more.
absl::Status LiveMount::MoveToTarget(Overlay& overlay) {
  DiffStore& diff = overlay.diff_store();
  const std::vector<std::string> now = TargetNames();
  std::vector<std::string> known = diff.targets();
  const bool moves = known != now;
  for (const std::string& name : now) {
    if (std::find(known.begin(), known.end(), name) == known.end()) known.push_back(name);
  }
  PBKFS_ASSIGN_OR_RETURN(
      const std::vector<Overlay::NamedLink> links,
      TablespaceLinksToTurn(overlay, *plan_.image, known, plan_.request.target()));
  if (!links.empty()) PBKFS_RETURN_IF_ERROR(diff.MarkUsedAt(known));
  for (const Overlay::NamedLink& link : links) {
    PBKFS_RETURN_IF_ERROR(overlay.PutLink(link.name, link.target));
  }
  if (moves) PBKFS_RETURN_IF_ERROR(overlay.RemoveUnfinishedLink());
  return diff.MarkUsedAt(now);
}

// As the server sees it, and without symbolic links.
std::vector<std::string> LiveMount::TargetNames() const {
  std::vector<std::string> names = {plan_.request.target()};
  if (paths().target != names[0]) names.push_back(paths().target);
  return names;
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
  const bool links = !plan_.image->info().tablespaces.empty() &&
                     plan_.request.tablespaces() == v1::TABLESPACE_MODE_SYMLINK;
  if (links) {
    PBKFS_RETURN_IF_ERROR(MakeTablespaceLinks(overlay, *plan_.image, plan_.request.target()));
  }
  return overlay.diff_store().MarkPrepared(FormatSettings(plan_.settings), links, TargetNames());
}

absl::Status LiveMount::MakeTarget() {
  if (plan_.where.target_exists) return absl::OkStatus();
  const std::string& target = paths().target;
  const absl::StatusOr<PlainParent> parent = OpenPlainParent(target);
  if (!parent.ok()) return WithField(parent.status(), "target");
  const int directory = parent->directory.get();
  if (mkdirat(directory, parent->name.c_str(), 0700) != 0) {
    return WithField(ErrnoError(errno, absl::StrCat("making the target ", target)), "target");
  }
  made_target_ = true;
  const v1::Owner& owner = plan_.mount.owner();
  if (fchownat(directory, parent->name.c_str(), owner.uid(), owner.gid(), AT_SYMLINK_NOFOLLOW) !=
      0) {
    return WithField(ErrnoError(errno, absl::StrCat("giving ", target, " to its owner")), "target");
  }
  return absl::OkStatus();
}

void LiveMount::Abandon() {
  StopProbe();
  if (mounted_) {
    // The session, if there is one, has no users yet; without one its descriptor is closed already.
    absl::Status status = environment_.keeper.Unmount(id(), paths().target, UnmountMode::kDetached);
    if (status.ok()) status = environment_.keeper.Forget(id());
    if (!status.ok()) {
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
  held_.clear();
  RemoveTarget();
  if (opened_diff_ && plan_.diff_is_new) {
    RemoveMadeDiff(environment_.io, RecordOfBegun());
  }
  if (plan_.made_again) return;
  const absl::Status status = plan_.replaced.has_value()
                                  ? environment_.registry.Save(*plan_.replaced)
                                  : environment_.registry.Remove(id());
  if (!status.ok()) {
    spdlog::error("{}: undoing a mount: {}", id(), std::string(status.message()));
  }
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

std::map<std::string, FuseFigures::Latency> LiveMount::FuseLatency() const {
  ReaderLock lock(&objects_mutex_);
  return session_ == nullptr ? last_latency_ : session_->Figures().latency;
}

bool LiveMount::Healthy() const {
  {
    ReaderLock lock(&objects_mutex_);
    if (session_ == nullptr || !session_->alive()) return false;
  }
  MutexLock lock(&state_mutex_);
  // One that waits to be unmounted still serves who uses it.
  return state_ != v1::MOUNT_STATE_FAILED && probe_ != nullptr && probe_->Healthy();
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
  probe_ = std::make_unique<MountProbe>(id(), *overlay, plan_.image->chain(), [this] {
    ReaderLock lock(&objects_mutex_);
    return session_ == nullptr ? FuseFigures() : session_->Figures();
  });
}

void LiveMount::StopProbe() {
  if (probe_ != nullptr) probe_->Stop();
}

}  // namespace pbkfs
