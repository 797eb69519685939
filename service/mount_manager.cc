#include "service/mount_manager.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/plain_path.h"
#include "fs/base/status.h"
#include "service/limits.h"
#include "service/lock_plan.h"
#include "service/logging.h"
#include "service/proto_convert.h"
#include "service/recovery_plan.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

absl::Status Pending(const std::string& mount_id) {
  return ReasonError(absl::StatusCode::kAborted, reason::kOperationPending,
                     absl::StrCat("another operation on mount '", mount_id,
                                  "' is running; try again when it is done"));
}

absl::Status Incompatible(const std::string& mount_id, absl::string_view what) {
  return ReasonError(absl::StatusCode::kAlreadyExists, reason::kMountIncompatible,
                     absl::StrCat("mount '", mount_id, "' ", what,
                                  "; unmount it first, or choose another id and target"));
}

absl::Status Cancelled(const std::string& mount_id) {
  return absl::CancelledError(absl::StrCat("mount '", mount_id,
                                           "': the caller does not wait any more, and nothing was "
                                           "mounted; try again with a longer deadline"));
}

// The chain in order, "FULL TOW2GV <- DELTA TOW2H7": what the log shows of a new mount.
std::string ChainText(const v1::Mount& mount) {
  std::string text;
  for (const v1::ChainMember& member : mount.chain()) {
    absl::StrAppend(&text, text.empty() ? "" : " <- ", member.mode(), " ", member.backup_id());
  }
  return text;
}

absl::Status CheckOwnsMount(const Caller& caller, const LiveMount& mount) {
  return caller.CheckOwns(mount.owner_uid(), absl::StrCat("mount '", mount.id(), "'"));
}

absl::StatusOr<v1::Mount> DescribeTo(const Caller& caller, const LiveMount& mount) {
  PBKFS_RETURN_IF_ERROR(CheckOwnsMount(caller, mount));
  return mount.Describe();
}

// Whose a directory is that a request leads into.
absl::Status CheckDirectory(const Caller& caller, absl::string_view field, const std::string& path,
                            bool may_be_own) {
  const absl::StatusOr<UniqueFd> fd = OpenPlainDirectory(path, O_PATH);
  struct stat st;
  // The plan says what is wrong with a file.
  if (ErrnoOf(fd.status()) == ENOTDIR) return absl::OkStatus();
  if (!fd.ok()) return WithField(fd.status(), field);
  if (fstat(fd->get(), &st) != 0) return ErrnoError(errno, path);
  return caller.CheckDirectory(field, path, st.st_uid, may_be_own);
}

absl::Status CheckDirectories(const Caller& caller, const RequestPaths& where) {
  if (caller.administrator()) return absl::OkStatus();
  const auto parent = [](const std::string& path) {
    return path.substr(0, std::max<size_t>(1, path.rfind('/')));
  };
  const std::string& target = where.paths.target;
  const std::string& diff = where.paths.diff;
  PBKFS_RETURN_IF_ERROR(CheckDirectory(
      caller, "target", where.target_exists ? target : parent(target), /*may_be_own=*/true));
  PBKFS_RETURN_IF_ERROR(CheckDirectory(caller, "diff_dir", parent(diff), /*may_be_own=*/true));
  // Nobody brings a diff of his own making.
  const absl::Status made = CheckDirectory(caller, "diff_dir", diff, /*may_be_own=*/false);
  return ErrnoOf(made) == ENOENT ? absl::OkStatus() : made;
}

// Threads and space that a caller takes for himself. Defaults are for everybody.
absl::Status CheckAppetite(const Caller& caller, const v1::MountRequest& request,
                           const v1::MountDefaults& defaults) {
  const uint32_t threads = std::max(kMaxCallerThreads, defaults.threads());
  if (request.threads() > threads) {
    PBKFS_RETURN_IF_ERROR(WithField(
        caller.CheckAdministrator(absl::StrCat("threads: more than ", threads)), "threads"));
  }
  const int64_t space = defaults.diff_limit_bytes();
  if (space > 0 && request.diff_limit_bytes() > space) {
    PBKFS_RETURN_IF_ERROR(
        WithField(caller.CheckAdministrator(absl::StrCat("diff_limit_bytes: more than ", space)),
                  "diff_limit_bytes"));
  }
  return absl::OkStatus();
}

absl::Status CheckPlan(const MountPlan& plan, const Caller& caller) {
  return caller.CheckOwner(plan.mount.owner(), /*by_default=*/!plan.request.has_owner());
}

}  // namespace

absl::Status UnknownMount(const std::string& mount_id) {
  return ReasonError(absl::StatusCode::kNotFound, reason::kMountNotFound,
                     absl::StrCat("there is no mount '", mount_id, "'; see pbkfs list"));
}

MountManager::MountManager(const ConfigHolder& config, const PathPolicy& policy,
                           ImageRegistry& images, CatalogLocker& locker,
                           const MountEnvironment& environment)
    : config_(config),
      policy_(policy),
      images_(images),
      locker_(locker),
      environment_(environment),
      start_time_(absl::Now()) {}

MountManager::~MountManager() {
  if (restoring_.joinable()) restoring_.join();
}

absl::StatusOr<std::shared_ptr<LiveMount>> MountManager::FindExisting(
    const v1::MountRequest& original, const v1::MountRequest& request) const {
  for (const auto& [id, slot] : slots_) {
    const bool same_id = id == request.mount_id();
    if (!same_id && slot.request.target() != request.target()) continue;
    if (slot.pending) return Pending(id);
    // What a request leaves to the defaults is what the mount has, though they may have changed.
    if (!same_id) return Incompatible(id, absl::StrCat("is at ", request.target()));
    const std::string difference =
        DifferenceOf(slot.request, WithDefaultsOf(slot.request, original, request),
                     slot.mount->Describe().backup_id());
    if (difference.empty()) return slot.mount;
    return Incompatible(id, absl::StrCat("has other parameters (", difference, ")"));
  }
  return nullptr;
}

absl::Status MountManager::CheckNotAwaited(const std::string& mount_id, const std::string& target,
                                           const std::string& diff) const {
  for (const auto& [id, awaited] : awaited_) {
    if (id == mount_id || awaited.target == target || awaited.diff == diff) return Pending(id);
  }
  return absl::OkStatus();
}

absl::Status MountManager::CheckDiffNotAwaited(const std::string& diff) const {
  MutexLock lock(&mutex_);
  return CheckNotAwaited("", "", diff);
}

absl::Status MountManager::CheckOthers(const v1::MountRequest& request, const MountPaths& paths,
                                       const Caller& caller) const {
  const uint32_t most = LimitFor(caller.administrator(), config_.Get()->limits().max_mounts());
  if (slots_.size() >= most) {
    return ReasonError(
        absl::StatusCode::kResourceExhausted, reason::kMountLimit,
        absl::StrCat("there are ", slots_.size(), " mounts already, and ", most, " are allowed",
                     caller.administrator() ? "" : " (more only for administrators)",
                     "; unmount one first, or raise limits.max_mounts "
                     "in the configuration of pbkfsd"));
  }
  for (const auto& [id, slot] : slots_) {
    if (slot.paths.target == paths.target) {
      return slot.pending ? Pending(id) : Incompatible(id, absl::StrCat("is at ", paths.target));
    }
    if (slot.paths.diff == paths.diff) {
      return WithField(
          ReasonError(absl::StatusCode::kFailedPrecondition, reason::kDiffInUse,
                      absl::StrCat("diff ", request.diff_dir(), " is in use by mount '", id,
                                   "'; name another one")),
          "diff_dir");
    }
    PBKFS_RETURN_IF_ERROR(CheckApartFrom(paths, slot.paths, id));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Mount> MountManager::Mount(const v1::MountRequest& request, const Caller& caller,
                                              const std::function<bool()>& cancelled) {
  return MountFor(Origin::kCaller, request, caller, cancelled);
}

absl::StatusOr<v1::Mount> MountManager::MountFor(Origin origin, const v1::MountRequest& original,
                                                 const Caller& caller,
                                                 const std::function<bool()>& cancelled) {
  // What is made again is complete: nothing of it comes from the defaults of now.
  const v1::MountDefaults defaults =
      origin == Origin::kAgain ? v1::MountDefaults() : config_.Get()->defaults();
  PBKFS_ASSIGN_OR_RETURN(const v1::MountRequest request,
                         NormalizeRequest(original, policy_.state_directory(), defaults));
  if (cancelled()) return Cancelled(request.mount_id());
  {
    // Before the paths are resolved: the target of a mount that exists is not touched.
    MutexLock lock(&mutex_);
    if (draining_) {
      return ReasonError(absl::StatusCode::kUnavailable, reason::kDraining,
                         "the daemon is stopping; try again when it is back");
    }
    if (origin == Origin::kCaller) {
      PBKFS_RETURN_IF_ERROR(CheckNotAwaited(request.mount_id(), request.target(), ""));
    }
    PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<LiveMount> existing,
                           FindExisting(original, request));
    if (existing != nullptr) return DescribeTo(caller, *existing);
  }
  PBKFS_RETURN_IF_ERROR(CheckAppetite(caller, request, defaults));
  if (request.has_owner()) {
    PBKFS_RETURN_IF_ERROR(caller.CheckOwner(request.owner(), /*by_default=*/false));
  }
  PBKFS_ASSIGN_OR_RETURN(const RequestPaths where, ResolvePaths(request, policy_));
  PBKFS_RETURN_IF_ERROR(CheckDirectories(caller, where));
  {
    MutexLock lock(&mutex_);
    PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<LiveMount> existing,
                           FindExisting(original, request));
    if (existing != nullptr) return DescribeTo(caller, *existing);
    if (origin == Origin::kCaller) PBKFS_RETURN_IF_ERROR(CheckNotAwaited("", "", where.paths.diff));
    PBKFS_RETURN_IF_ERROR(CheckOthers(request, where.paths, caller));
    if (!request.validate_only()) {
      Slot& slot = slots_[request.mount_id()];
      slot.paths = where.paths;
      slot.request = request;
      slot.pending = true;
    }
  }
  if (request.validate_only()) {
    PBKFS_ASSIGN_OR_RETURN(const MountPlan plan, MakePlan(origin, request, where, caller));
    return plan.mount;
  }
  absl::StatusOr<v1::Mount> made = MakeMount(origin, request, where, caller, cancelled);
  if (!made.ok()) {
    MutexLock lock(&mutex_);
    slots_.erase(request.mount_id());
  }
  return made;
}

absl::StatusOr<MountPlan> MountManager::MakePlan(Origin origin, const v1::MountRequest& request,
                                                 const RequestPaths& where, const Caller& caller) {
  PBKFS_ASSIGN_OR_RETURN(const ChosenBackup chosen,
                         ChooseBackup(request, where, images_, environment_.io));
  PBKFS_ASSIGN_OR_RETURN(MountPlan plan,
                         LockAndPlan(chosen.request, where, images_, locker_, environment_.io));
  PBKFS_RETURN_IF_ERROR(CheckPlan(plan, caller));
  PBKFS_RETURN_IF_ERROR(FillEarlier(origin, &plan));
  if (!chosen.why.empty()) plan.mount.add_warnings(chosen.why);
  return plan;
}

// What an earlier daemon had mounted, and could not mount again, is known by its record.
absl::Status MountManager::FillEarlier(Origin origin, MountPlan* plan) const {
  const std::string& id = plan->request.mount_id();
  absl::StatusOr<v1::MountRecord> earlier = environment_.registry.Find(id);
  const bool known = earlier.ok() && !earlier->begun() && !earlier->delete_diff();
  plan->made_again =
      origin == Origin::kAgain || (known && earlier->diff_path() == plan->where.paths.diff);
  if (known && !plan->made_again) plan->replaced = *std::move(earlier);
  if (!plan->made_again || !plan->diff_is_new) return absl::OkStatus();
  // Perhaps its disk is not mounted yet. A new one would show the backup without the changes.
  return WithField(
      ReasonError(absl::StatusCode::kNotFound, reason::kDiffNotFound,
                  absl::StrCat("the diff ", plan->request.diff_dir(),
                               " is gone; bring it back and mount again, or begin anew after pbkfs "
                               "unmount ",
                               id)),
      "diff_dir");
}

absl::StatusOr<v1::Mount> MountManager::MakeMount(Origin origin, const v1::MountRequest& request,
                                                  const RequestPaths& where, const Caller& caller,
                                                  const std::function<bool()>& cancelled) {
  PBKFS_ASSIGN_OR_RETURN(MountPlan plan, MakePlan(origin, request, where, caller));
  // The last look: a mount that is made stays, and the same request finds it.
  if (cancelled()) return Cancelled(request.mount_id());
  PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<LiveMount> mount,
                         LiveMount::Create(std::move(plan), environment_));
  const v1::Mount description = mount->Describe();
  LogEvent(spdlog::level::info, "mounted")
      .Field("mount", description.mount_id())
      .Field("instance", description.instance())
      .Field("backup", description.backup_id())
      .Field("chain", ChainText(description))
      .Field("target", description.target())
      .Field("diff", description.diff_dir())
      .Field("seconds", absl::ToDoubleSeconds(mount->build_time()));
  MutexLock lock(&mutex_);
  Slot& slot = slots_[request.mount_id()];
  slot.mount = mount;
  slot.pending = false;
  mount_durations_.Add(mount->build_time());
  return description;
}

absl::StatusOr<std::string> MountManager::FindUnmountId(const v1::UnmountRequest& request) const {
  if (request.mount_id().empty() == request.target().empty()) {
    return WithField(ReasonError(absl::StatusCode::kInvalidArgument, reason::kInvalidField,
                                 "mount_id: give either mount_id or target"),
                     "mount_id");
  }
  if (!request.mount_id().empty()) {
    PBKFS_RETURN_IF_ERROR(CheckNotAwaited(request.mount_id(), "", ""));
    return slots_.count(request.mount_id()) > 0 ? request.mount_id() : std::string();
  }
  PBKFS_ASSIGN_OR_RETURN(const std::string target, CleanPath("target", request.target()));
  PBKFS_RETURN_IF_ERROR(CheckNotAwaited("", target, ""));
  for (const auto& [id, slot] : slots_) {
    if (slot.request.target() == target || slot.paths.target == target) return id;
  }
  return std::string();
}

absl::StatusOr<v1::UnmountResponse> MountManager::Unmount(const v1::UnmountRequest& request,
                                                          const Caller& caller,
                                                          const std::function<bool()>& cancelled) {
  UnmountOptions options;
  options.wait = request.has_wait() ? FromProto(request.wait()) : absl::ZeroDuration();
  options.cancelled = cancelled;
  options.force = request.force();
  options.delete_diff = request.delete_diff();
  return UnmountWith(request, caller, std::move(options));
}

absl::StatusOr<v1::UnmountResponse> MountManager::UnmountWith(const v1::UnmountRequest& request,
                                                              const Caller& caller,
                                                              UnmountOptions options) {
  std::shared_ptr<LiveMount> mount;
  {
    MutexLock lock(&mutex_);
    PBKFS_ASSIGN_OR_RETURN(const std::string id, FindUnmountId(request));
    if (!id.empty()) {
      Slot& slot = slots_[id];
      if (slot.pending) return Pending(id);
      PBKFS_RETURN_IF_ERROR(CheckOwnsMount(caller, *slot.mount));
      slot.pending = true;
      mount = slot.mount;
    }
  }
  if (mount == nullptr) return Forget(request, caller);
  v1::UnmountResponse response;
  response.set_mount_id(mount->id());
  response.set_diff_dir(mount->request().diff_dir());
  const absl::StatusOr<UnmountResult> result = mount->Unmount(options);
  if (!result.ok() && mount->still_mounted()) {
    MutexLock lock(&mutex_);
    slots_[mount->id()].pending = false;
    return result.status();
  }
  Retire(*mount);
  PBKFS_RETURN_IF_ERROR(result.status());
  response.set_was_mounted(true);
  response.set_diff_deleted(result->diff_deleted);
  return response;
}

std::optional<v1::MountRecord> MountManager::FindRecord(const v1::UnmountRequest& request) const {
  if (request.target().empty()) {
    // It becomes a file's name.
    if (!CheckMountId(request.mount_id()).ok()) return std::nullopt;
    absl::StatusOr<v1::MountRecord> record = environment_.registry.Find(request.mount_id());
    return record.ok() ? std::optional(*std::move(record)) : std::nullopt;
  }
  const absl::StatusOr<std::string> target = CleanPath("target", request.target());
  absl::StatusOr<std::vector<v1::MountRecord>> records = environment_.registry.Load();
  if (!target.ok() || !records.ok()) return std::nullopt;
  for (v1::MountRecord& record : *records) {
    if (record.request().target() == *target || record.target_path() == *target) {
      return std::move(record);
    }
  }
  return std::nullopt;
}

absl::StatusOr<v1::UnmountResponse> MountManager::Forget(const v1::UnmountRequest& request,
                                                         const Caller& caller) {
  v1::UnmountResponse response;
  response.set_mount_id(request.mount_id());
  const std::optional<v1::MountRecord> record = FindRecord(request);
  if (!record.has_value()) return response;
  const std::string& id = record->request().mount_id();
  response.set_mount_id(id);
  PBKFS_RETURN_IF_ERROR(
      caller.CheckOwns(record->mount().owner().uid(), absl::StrCat("mount '", id, "'")));
  {
    MutexLock lock(&mutex_);
    if (slots_.count(id) > 0) return Pending(id);
    Slot& slot = slots_[id];
    slot.paths = {record->store_path(), record->target_path(), record->diff_path()};
    slot.request = record->request();
    slot.pending = true;
  }
  absl::Status status;
  if (request.delete_diff()) status = RemoveDiff(environment_.io, record->diff_path());
  if (status.ok()) status = environment_.registry.Remove(id);
  MutexLock lock(&mutex_);
  slots_.erase(id);
  PBKFS_RETURN_IF_ERROR(status);
  spdlog::info("mount {}: an earlier daemon had it; it is forgotten", id);
  response.set_diff_dir(record->request().diff_dir());
  response.set_diff_deleted(request.delete_diff());
  return response;
}

void MountManager::Retire(const LiveMount& mount) {
  const std::map<std::string, FuseFigures::Latency> last = mount.FuseLatency();
  MutexLock lock(&mutex_);
  slots_.erase(mount.id());
  for (const auto& [op, latency] : last) {
    FuseFigures::Latency& total = retired_latency_[op];
    total.buckets.resize(latency.buckets.size());
    for (size_t i = 0; i < latency.buckets.size(); ++i) total.buckets[i] += latency.buckets[i];
    total.sum_seconds += latency.sum_seconds;
  }
}

absl::StatusOr<v1::Mount> MountManager::GetMount(const std::string& mount_id) const {
  const std::shared_ptr<const LiveMount> mount = Find(mount_id);
  if (mount == nullptr) return UnknownMount(mount_id);
  return mount->Describe();
}

absl::Status MountManager::CheckOwns(const Caller& caller, const std::string& mount_id) const {
  const std::shared_ptr<const LiveMount> mount = Find(mount_id);
  return mount == nullptr ? absl::OkStatus() : CheckOwnsMount(caller, *mount);
}

void MountManager::KeepOwned(const Caller& caller, v1::StatsResponse* response) const {
  if (caller.administrator()) return;
  auto* mounts = response->mutable_mounts();
  const auto others = [&](const v1::MountStats& stats) {
    const std::shared_ptr<const LiveMount> mount = Find(stats.mount_id());
    return mount == nullptr || !caller.Owns(mount->owner_uid());
  };
  mounts->erase(std::remove_if(mounts->begin(), mounts->end(), others), mounts->end());
}

v1::ListMountsResponse MountManager::ListMounts(const Caller& caller) const {
  v1::ListMountsResponse response;
  for (const auto& mount : Mounts()) {
    if (caller.Owns(mount->owner_uid())) *response.add_mounts() = mount->Describe();
  }
  return response;
}

std::vector<std::shared_ptr<const LiveMount>> MountManager::Mounts() const {
  std::vector<std::shared_ptr<const LiveMount>> mounts;
  MutexLock lock(&mutex_);
  for (const auto& [id, slot] : slots_) {
    if (slot.mount != nullptr) mounts.push_back(slot.mount);
  }
  return mounts;
}

std::shared_ptr<const LiveMount> MountManager::Find(const std::string& mount_id) const {
  MutexLock lock(&mutex_);
  const auto it = slots_.find(mount_id);
  return it == slots_.end() ? nullptr : it->second.mount;
}

MountsSnapshot MountManager::Snapshot() const {
  MountsSnapshot snapshot;
  MutexLock lock(&mutex_);
  for (const auto& [id, slot] : slots_) {
    if (slot.mount != nullptr) {
      snapshot.live.push_back(slot.mount);
    } else {
      ++snapshot.creating;
    }
  }
  snapshot.retired_latency = retired_latency_;
  snapshot.mount_durations = mount_durations_;
  return snapshot;
}

void MountManager::StartDraining() {
  MutexLock lock(&mutex_);
  draining_ = true;
}

bool MountManager::draining() const {
  MutexLock lock(&mutex_);
  return draining_;
}

std::vector<std::string> MountManager::NotReady() const {
  std::vector<std::string> reasons;
  MutexLock lock(&mutex_);
  if (draining_) reasons.emplace_back("the daemon is stopping");
  if (!restored_) reasons.emplace_back("mounts of the last daemon are being made again");
  return reasons;
}

bool MountManager::UnmountAll(const std::function<bool()>& hurry) {
  // What it mounts is to be unmounted too; it mounts nothing more.
  if (restoring_.joinable()) restoring_.join();
  const absl::Time deadline = absl::Now() + kMaxBusyWait;
  absl::Time report;  // When busy mounts are named next.
  while (true) {
    const bool force = hurry() || absl::Now() > deadline;
    const bool names = absl::Now() >= report;
    bool busy = false;
    for (const auto& mount : Mounts()) {
      v1::UnmountRequest request;
      request.set_mount_id(mount->id());
      UnmountOptions options;
      options.force = force;
      options.keep_record = true;
      absl::StatusOr<v1::UnmountResponse> response =
          UnmountWith(request, Caller::Daemon(), options);
      if (ReasonOf(response.status()) == reason::kTargetBusy && !mount->attached()) {
        // Somebody uses it through another mount namespace. Nobody can find it here any more, nor
        // wait for its end.
        spdlog::warn("{}; it ends now", std::string(response.status().message()));
        options.force = true;
        response = UnmountWith(request, Caller::Daemon(), options);
      }
      // Of one that a call is at work on that call takes care.
      if (response.ok() || ReasonOf(response.status()) == reason::kOperationPending) continue;
      const bool in_use = ReasonOf(response.status()) == reason::kTargetBusy && !force;
      busy |= in_use;
      if (!in_use) {
        spdlog::error("{}: {}", mount->id(), std::string(response.status().message()));
      } else if (names) {
        spdlog::warn("waiting to stop: {}", std::string(response.status().message()));
      }
    }
    if (!busy) return Mounts().empty();
    if (names) report = absl::Now() + kBusyReportPeriod;
    absl::SleepFor(absl::FromChrono(kUnmountRetryPeriod));
  }
}

}  // namespace pbkfs
