#include "service/recovery_plan.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "fs/base/status.h"
#include "fs/catalog/archive_wal.h"
#include "fs/catalog/catalog.h"
#include "fs/catalog/lineage.h"
#include "fs/catalog/lower_wal.h"
#include "fs/catalog/recovery_scan.h"
#include "fs/diff/binding.h"
#include "google/protobuf/util/message_differencer.h"
#include "service/recovery_settings.h"
#include "service/wal_check.h"

namespace pbkfs {
namespace {

using Kind = RecoveryTarget::Kind;

absl::Status Unreachable(absl::string_view message) {
  return WithField(ReasonError(absl::StatusCode::kOutOfRange, reason::kTargetUnreachable, message),
                   "recovery");
}

std::string TimeText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%E*S+00", time, absl::UTCTimeZone());
}

std::string EndText(const BackupControl& control) {
  return absl::StrCat(
      FormatLsn(control.stop_lsn),
      control.recovery_time == 0
          ? std::string()
          : absl::StrCat(" (", TimeText(absl::FromUnixSeconds(control.recovery_time)), ")"));
}

// The WAL that one backup is recovered with.
class RecoveryWal {
 public:
  static absl::StatusOr<std::unique_ptr<RecoveryWal>> Open(const Image& image,
                                                           const WalArchive* archive,
                                                           absl::string_view timeline) {
    const BackupControl& control = image.chain().tip().control;
    PBKFS_ASSIGN_OR_RETURN(TimelinePath path,
                           FindTimelinePath(archive, control.timeline, control.stop_lsn, timeline));
    return std::unique_ptr<RecoveryWal>(new RecoveryWal(image, archive, std::move(path)));
  }

  absl::StatusOr<RecoveryScan> Scan(const RecoveryTarget& target, Lsn limit = kMaxLsn) {
    absl::StatusOr<RecoveryScan> scan =
        ScanForRecovery(source_, start_, control_.stop_lsn, target, limit);
    if (!scan.ok()) return Annotate(scan.status(), "reading the WAL up to the recovery target");
    return scan;
  }

  // Why the log ends where `scan` says that it does.
  absl::StatusOr<std::string> WhyItEnds(const RecoveryScan& scan) const;
  // Whether the archive has segments behind the one in which the log ends.
  absl::StatusOr<bool> GoesOnBehind(Lsn end) const;
  // From where to where recovery can go.
  absl::StatusOr<std::string> Range();

 private:
  RecoveryWal(const Image& image, const WalArchive* archive, TimelinePath path)
      : control_(image.chain().tip().control),
        id_(image.chain().tip().id),
        archive_(archive),
        path_(path),
        start_(WalStartOf(image)),
        own_(image, WalDirectoryOf(image), start_.segment_bytes),
        source_(archive, &own_, std::move(path), start_.segment_bytes) {}

  const BackupControl& control_;
  const std::string id_;
  const WalArchive* const archive_;
  const TimelinePath path_;
  const WalStart start_;
  LowerWal own_;
  ArchiveWal source_;
};

absl::StatusOr<bool> RecoveryWal::GoesOnBehind(Lsn end) const {
  if (archive_ == nullptr) return false;
  PBKFS_ASSIGN_OR_RETURN(const auto segments, archive_->ListSegments());
  const uint64_t bytes = start_.segment_bytes;
  const uint64_t last = (end - 1) / bytes;
  for (const TimelineSpan& span : path_) {
    const auto runs = segments.find(span.timeline);
    if (runs == segments.end()) continue;
    for (const SegmentRun& run : runs->second) {
      // The newest that lies on the path.
      const uint64_t newest = std::min(run.last, (span.end - 1) / bytes);
      if (newest >= run.first && newest > last) return true;
    }
  }
  return false;
}

absl::StatusOr<std::string> RecoveryWal::WhyItEnds(const RecoveryScan& scan) const {
  const std::string place = archive_ == nullptr
                                ? std::string("the backup; the store has no archive")
                                : absl::StrCat(archive_->path());
  PBKFS_ASSIGN_OR_RETURN(const bool goes_on, GoesOnBehind(scan.end));
  if (absl::IsNotFound(scan.problem)) {
    return absl::StrCat("WAL segment ", source_.missing(), " is missing from ", place,
                        goes_on ? ", though later ones are there: put it back from a copy" : "");
  }
  return absl::StrCat(
      "the WAL in segment ",
      WalSegmentName(path_.back().timeline, scan.end / start_.segment_bytes, start_.segment_bytes),
      " of ", place, " ends or can't be read: ", scan.problem.message(),
      goes_on ? ", though later segments are there: put it back from a copy" : "");
}

absl::StatusOr<std::string> RecoveryWal::Range() {
  RecoveryTarget latest;
  latest.kind = Kind::kLatest;
  PBKFS_ASSIGN_OR_RETURN(const RecoveryScan scan, Scan(latest));
  if (!scan.reached) {
    PBKFS_ASSIGN_OR_RETURN(const std::string why, WhyItEnds(scan));
    return absl::StrCat("nothing is reachable from backup ", id_, ", which is consistent at ",
                        EndText(control_), ": ", why);
  }
  std::string until = FormatLsn(scan.end);
  if (scan.last_transaction.has_value()) {
    absl::StrAppend(&until, " (its last transaction ended at ", TimeText(*scan.last_transaction),
                    ")");
  }
  return absl::StrCat("reachable from backup ", id_, " is ", EndText(control_), " to ", until);
}

absl::Status CheckReached(const v1::Recovery& recovery, const RecoveryScan& scan,
                          RecoveryWal& wal) {
  const std::string target = absl::StrCat("recovery target ", RecoveryText(recovery));
  if (scan.too_early) {
    PBKFS_ASSIGN_OR_RETURN(const std::string range, wal.Range());
    return Unreachable(absl::StrCat(target, " lies before the backup's end: ", range,
                                    "; choose an older backup, or leave the choice to the server"));
  }
  if (!scan.reached) {
    PBKFS_ASSIGN_OR_RETURN(const std::string why, wal.WhyItEnds(scan));
    PBKFS_ASSIGN_OR_RETURN(const std::string range, wal.Range());
    return Unreachable(absl::StrCat(target, " is not in the archived WAL, which ends at ",
                                    FormatLsn(scan.end), " (", why, "): ", range,
                                    "; choose a target in that range"));
  }
  if (!recovery.has_latest()) return absl::OkStatus();
  // The server would take a gap for the end.
  PBKFS_ASSIGN_OR_RETURN(const bool goes_on, wal.GoesOnBehind(scan.end));
  if (!goes_on) return absl::OkStatus();
  PBKFS_ASSIGN_OR_RETURN(const std::string why, wal.WhyItEnds(scan));
  PBKFS_ASSIGN_OR_RETURN(const std::string range, wal.Range());
  return Unreachable(absl::StrCat(target, ": ", why, "; or choose another target: ", range));
}

absl::Status CheckRecovery(MountPlan* plan, const WalArchive* archive, const v1::Recovery& recovery,
                           std::vector<std::string>* warnings) {
  const Image& image = *plan->image;
  if (image.chain().tip().control.ServerMajor() < kFirstMajorWithRecoverySettings) {
    return WithField(
        ReasonError(absl::StatusCode::kUnimplemented, reason::kUnsupportedFormat,
                    absl::StrCat("recovery: servers before ", kFirstMajorWithRecoverySettings,
                                 " read recovery.conf, which this version does not write; leave it "
                                 "out, and write that file into the mount")),
        "recovery");
  }
  absl::StatusOr<std::unique_ptr<RecoveryWal>> wal =
      RecoveryWal::Open(image, archive, recovery.timeline());
  if (!wal.ok()) return WithField(wal.status(), "recovery");
  const RecoveryTarget target = TargetOf(recovery);
  PBKFS_ASSIGN_OR_RETURN(RecoveryScan scan, (*wal)->Scan(target));
  // A server would stop at the first transaction that ends later, and show all that the backup has.
  const int64_t backup_time = image.chain().tip().control.recovery_time;
  if (target.kind == Kind::kTime && target.time < absl::FromUnixSeconds(backup_time)) {
    scan.reached = false;
    scan.too_early = true;
  }
  PBKFS_RETURN_IF_ERROR(CheckReached(recovery, scan, **wal));
  PBKFS_RETURN_IF_ERROR(CheckTablespaces(scan.creations, "the WAL up to the recovery target",
                                         plan->request.allow_tablespace_wal(), warnings));
  plan->mount.set_stop_lsn(FormatLsn(scan.end));
  if (recovery.has_latest()) {
    warnings->push_back(absl::StrCat(
        "WAL that is archived from now on is replayed too, and was not searched for tablespaces; "
        "until now the archive ends at ",
        FormatLsn(scan.end)));
  }
  return absl::OkStatus();
}

absl::Status CheckSameRecovery(const MountPlan& plan, const std::optional<v1::Recovery>& has) {
  if (!plan.request.has_recovery()) return absl::OkStatus();
  if (has.has_value() &&
      google::protobuf::util::MessageDifferencer::Equals(*has, plan.request.recovery())) {
    return absl::OkStatus();
  }
  return WithField(
      ReasonError(absl::StatusCode::kFailedPrecondition, reason::kDiffBoundElsewhere,
                  absl::StrCat("the diff ", plan.where.paths.diff, " was made for recovery target ",
                               has.has_value() ? RecoveryText(*has) : std::string("none"),
                               has.has_value() ? absl::StrCat(" (timeline ", has->timeline(),
                                                              ", action ", has->action(), ")")
                                               : std::string(),
                               ", and recovery is written into a diff once; name another diff for ",
                               RecoveryText(plan.request.recovery()),
                               ", or leave the recovery out to go on with this one")),
      "diff_dir");
}

// The backup that a diff belongs to; "" where there is none of this instance.
std::string BoundBackup(const std::string& diff, const std::string& instance, Io& io) {
  const absl::StatusOr<std::unique_ptr<IoDir>> directory = io.OpenDir(diff);
  if (!directory.ok()) return "";
  const auto binding = ReadBinding(**directory);
  if (!binding.ok() || !binding->has_value() || (*binding)->instance() != instance) return "";
  return (*binding)->backup_id();
}

// Whether what backup.control says lets the target lie behind the backup's end. Its time is in
// whole seconds: `slack` is what it may be late by.
bool MayEndBefore(const BackupControl& control, const RecoveryTarget& target,
                  absl::Duration slack) {
  switch (target.kind) {
    case Kind::kImmediate:
    case Kind::kLatest:
    case Kind::kName:
      return true;
    case Kind::kLsn:
      return control.stop_lsn <= target.lsn;
    case Kind::kTime:
      return absl::FromUnixSeconds(control.recovery_time) + slack <= target.time;
    case Kind::kXid:
      // Ids go round.
      return static_cast<int32_t>(target.xid - static_cast<uint32_t>(control.recovery_xid)) >= 0;
  }
  return false;
}

class BackupChooser {
 public:
  BackupChooser(const v1::MountRequest& request, std::string store, ImageRegistry& images)
      : request_(request),
        store_(std::move(store)),
        images_(images),
        target_(TargetOf(request.recovery())) {}

  absl::StatusOr<std::string> Choose();

 private:
  absl::Status Load();
  // Newest first, that could be it by what backup.control says.
  std::vector<const Backup*> Candidates(absl::Duration slack) const;
  absl::StatusOr<std::string> FindByScan(const std::vector<const Backup*>& candidates);
  absl::Status NoBackup() const;

  const v1::MountRequest& request_;
  const std::string store_;
  ImageRegistry& images_;
  const RecoveryTarget target_;
  std::shared_ptr<const Instance> instance_;
  std::vector<Backup> backups_;
  std::shared_ptr<const WalArchive> archive_;
};

absl::Status BackupChooser::Load() {
  PBKFS_ASSIGN_OR_RETURN(const std::unique_ptr<Catalog> catalog, Catalog::Open(store_));
  PBKFS_ASSIGN_OR_RETURN(instance_, catalog->OpenInstance(request_.instance()));
  PBKFS_ASSIGN_OR_RETURN(backups_, instance_->ListBackups());
  auto archive = WalArchive::Open(store_, request_.instance(), instance_->config().wal_segment_size,
                                  images_.unpacked_segments());
  if (archive.ok()) archive_ = *std::move(archive);
  return absl::OkStatus();
}

std::vector<const Backup*> BackupChooser::Candidates(absl::Duration slack) const {
  const Lineage lineage(backups_, request_.force());
  std::vector<const Backup*> candidates;
  for (auto backup = backups_.rbegin(); backup != backups_.rend(); ++backup) {
    const BackupControl& control = backup->control;
    if (lineage.Check(*backup).ok() && MayEndBefore(control, target_, slack) &&
        FindTimelinePath(archive_.get(), control.timeline, control.stop_lsn,
                         request_.recovery().timeline())
            .ok()) {
      candidates.push_back(&*backup);
    }
  }
  return candidates;
}

// Only the log tells where a restore point or the end of a transaction is. Each stretch is read
// once: that of an older backup up to the end of the newer one.
absl::StatusOr<std::string> BackupChooser::FindByScan(
    const std::vector<const Backup*>& candidates) {
  Lsn limit = kMaxLsn;
  uint32_t timeline = 0;
  for (const Backup* backup : candidates) {
    PBKFS_ASSIGN_OR_RETURN(const std::shared_ptr<const Image> image,
                           images_.Get(instance_, backup->id, request_.force()));
    PBKFS_ASSIGN_OR_RETURN(
        const std::unique_ptr<RecoveryWal> wal,
        RecoveryWal::Open(*image, archive_.get(), request_.recovery().timeline()));
    if (backup->control.timeline != timeline) limit = kMaxLsn;
    PBKFS_ASSIGN_OR_RETURN(const RecoveryScan scan, wal->Scan(target_, limit));
    if (scan.reached) return backup->id;
    limit = backup->control.stop_lsn;
    timeline = backup->control.timeline;
  }
  return std::string();
}

absl::Status BackupChooser::NoBackup() const {
  const std::string target = absl::StrCat("recovery target ", RecoveryText(request_.recovery()));
  const Lineage lineage(backups_, request_.force());
  for (const Backup& backup : backups_) {
    if (!lineage.Check(backup).ok()) continue;
    absl::StatusOr<std::shared_ptr<const Image>> image =
        images_.Get(instance_, backup.id, request_.force());
    if (!image.ok()) continue;
    const auto wal = RecoveryWal::Open(**image, archive_.get(), request_.recovery().timeline());
    if (!wal.ok()) continue;
    PBKFS_ASSIGN_OR_RETURN(const std::string range, (*wal)->Range());
    return Unreachable(absl::StrCat(
        target, " can be reached from no backup; the oldest that can be mounted: ", range,
        "; choose a target after its begin that is in the archive"));
  }
  return Unreachable(absl::StrCat(target, ": instance ", request_.instance(),
                                  " has no backup that can be mounted and is on the ",
                                  "way to timeline ", request_.recovery().timeline(),
                                  "; see pbkfs backups --store ", store_));
}

absl::StatusOr<std::string> BackupChooser::Choose() {
  PBKFS_RETURN_IF_ERROR(Load());
  std::vector<const Backup*> candidates = Candidates(absl::Seconds(1));
  if (candidates.empty()) candidates = Candidates(absl::ZeroDuration());
  std::string id = candidates.empty() ? std::string() : candidates.front()->id;
  if (target_.kind == Kind::kXid || target_.kind == Kind::kName) {
    PBKFS_ASSIGN_OR_RETURN(id, FindByScan(candidates));
  }
  if (id.empty()) return NoBackup();
  return id;
}

}  // namespace

absl::StatusOr<ChosenBackup> ChooseBackup(const v1::MountRequest& request,
                                          const RequestPaths& where, ImageRegistry& images,
                                          Io& io) {
  ChosenBackup chosen;
  chosen.request = request;
  if (!request.has_recovery() || request.backup_id() != "latest") return chosen;
  std::string id = BoundBackup(where.paths.diff, request.instance(), io);
  if (id.empty()) {
    PBKFS_ASSIGN_OR_RETURN(id, BackupChooser(request, where.paths.store, images).Choose());
    chosen.why = absl::StrCat("backup ", id, " was chosen: it is the newest from which ",
                              RecoveryText(request.recovery()), " can be reached");
  }
  chosen.request.set_backup_id(id);
  return chosen;
}

absl::StatusOr<std::shared_ptr<const WalArchive>> OpenWalArchive(const Image& image,
                                                                 const std::string& store,
                                                                 const ImageRegistry& images) {
  auto archive = WalArchive::Open(store, image.chain().instance->name(),
                                  WalStartOf(image).segment_bytes, images.unpacked_segments());
  if (absl::IsNotFound(archive.status())) return nullptr;
  return archive;
}

absl::Status PlanRecovery(MountPlan* plan, const WalArchive* archive,
                          std::vector<std::string>* warnings) {
  const v1::MountRequest& request = plan->request;
  const BackupControl& control = plan->image->chain().tip().control;
  const auto set_recovery = [plan](const v1::Recovery& recovery) {
    plan->recovery = recovery;
    *plan->mount.mutable_recovery() = recovery;
  };
  if (plan->diff_settings.has_value()) {
    const std::optional<v1::Recovery> has = RecoveryOf(*plan->diff_settings);
    PBKFS_RETURN_IF_ERROR(CheckSameRecovery(*plan, has));
    if (has.has_value()) {
      set_recovery(*has);
      return absl::OkStatus();
    }
  }
  const bool implied = !request.has_recovery();
  if (implied && (control.stream || plan->diff_settings.has_value() ||
                  control.ServerMajor() < kFirstMajorWithRecoverySettings)) {
    return CheckTablespaceWal(*plan->image, request.allow_tablespace_wal(), warnings);
  }
  const v1::Recovery recovery = implied ? ArchiveRecovery() : request.recovery();
  const absl::Status status = CheckRecovery(plan, archive, recovery, warnings);
  // Nothing is started on a mount that can't be written, so that it needs no WAL to be looked at.
  if (!status.ok() && !(implied && request.read_only())) return status;
  if (!status.ok()) {
    warnings->push_back(absl::StrCat("PostgreSQL would not start on it: ", status.message()));
  }
  set_recovery(recovery);
  return absl::OkStatus();
}

}  // namespace pbkfs
