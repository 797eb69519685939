#include "fs/diff/diff_store.h"

#include <fcntl.h>
#include <google/protobuf/util/message_differencer.h>
#include <malloc.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/diff/checkpoint.h"
#include "fs/diff/diff_directory.h"
#include "fs/diff/log_reader.h"
#include "fs/diff/online_checkpoint.h"
#include "fs/diff/page_cache_evidence.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

// How often a diff may be deleted, or its empty directory be taken away, while it is being opened.
constexpr int kOpenAttempts = 20;

absl::StatusOr<std::unique_ptr<IoDir>> OpenOrMakeDir(IoDir& directory, const char* name) {
  const absl::Status made = directory.MakeDir(name, 0700);
  if (!made.ok() && ErrnoOf(made) != EEXIST) return made;
  if (made.ok()) PBKFS_RETURN_IF_ERROR(directory.Sync());
  return directory.OpenDir(name);
}

// Makes the directory at `path` where it is missing, durably in its parent.
absl::Status MakeDiffDirectory(Io& io, const std::string& path) {
  const absl::Status made = io.MakeDir(path, 0700);
  if (!made.ok()) return ErrnoOf(made) == EEXIST ? absl::OkStatus() : made;
  const std::string parent = path.substr(0, path.rfind('/'));
  PBKFS_ASSIGN_OR_RETURN(const auto directory, io.OpenDir(parent.empty() ? "/" : parent));
  return directory->Sync();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DiffStore>> DiffStore::Open(Io& io, const std::string& path,
                                                           const DiffIdentity& identity,
                                                           uint64_t maker) {
  absl::StatusOr<std::unique_ptr<DiffStore>> store = OpenOnce(io, path, identity, maker);
  // Whoever deleted what was there has done so: the next attempt makes a new one.
  for (int attempt = 1; attempt < kOpenAttempts; ++attempt) {
    if (ReasonOf(store.status()) != reason::kDiffNotFound) break;
    store = OpenOnce(io, path, identity, maker);
  }
  return store;
}

absl::StatusOr<std::unique_ptr<DiffStore>> DiffStore::OpenOnce(Io& io, const std::string& path,
                                                               const DiffIdentity& identity,
                                                               uint64_t maker) {
  PBKFS_RETURN_IF_ERROR(MakeDiffDirectory(io, path));
  auto store = std::unique_ptr<DiffStore>(new DiffStore(io, path, maker));
  auto opened = io.OpenDir(path);
  if (!opened.ok() && ErrnoOf(opened.status()) == ENOENT) return DiffIsGone(path);
  PBKFS_ASSIGN_OR_RETURN(store->directory_, std::move(opened));
  PBKFS_ASSIGN_OR_RETURN(std::optional<v1::DiffBinding> binding, ReadBinding(*store->directory_));
  if (!binding.has_value()) {
    // Nothing is put into a directory that is somebody else's.
    PBKFS_ASSIGN_OR_RETURN(const bool empty, IsEmptyDiff(*store->directory_));
    if (!empty) return NotADiff(path);
  }
  PBKFS_ASSIGN_OR_RETURN(store->lock_, TakeDiffLock(*store->directory_, path));
  // Read again: only the holder of the lock sees a binding that nobody is writing.
  PBKFS_ASSIGN_OR_RETURN(binding, ReadBinding(*store->directory_));
  if (!binding.has_value()) {
    PBKFS_RETURN_IF_ERROR(FinishDeletion(*store->directory_));
    binding = MakeBinding(identity);
    binding->set_maker(maker);
    PBKFS_RETURN_IF_ERROR(WriteBinding(*store->directory_, *binding));
  }
  PBKFS_RETURN_IF_ERROR(CheckBinding(*binding, identity, path));
  store->binding_ = *std::move(binding);
  PBKFS_RETURN_IF_ERROR(store->OpenDirectories());
  return store;
}

absl::Status DiffStore::OpenDirectories() {
  PBKFS_ASSIGN_OR_RETURN(data_, OpenOrMakeDir(*directory_, kDataName));
  PBKFS_ASSIGN_OR_RETURN(trash_, OpenOrMakeDir(*directory_, kTrashName));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<v1::DiffBinding>> DiffStore::Check(Io& io, const std::string& path,
                                                                const DiffIdentity& identity) {
  auto directory = io.OpenDir(path);
  if (!directory.ok() && ErrnoOf(directory.status()) == ENOENT) {
    return std::optional<v1::DiffBinding>();
  }
  if (!directory.ok()) return directory.status();
  PBKFS_ASSIGN_OR_RETURN(auto binding, ReadBinding(**directory));
  if (binding.has_value()) {
    PBKFS_RETURN_IF_ERROR(CheckBinding(*binding, identity, path));
  } else {
    PBKFS_ASSIGN_OR_RETURN(const bool empty, IsEmptyDiff(**directory));
    if (!empty) return NotADiff(path);
  }
  PBKFS_ASSIGN_OR_RETURN(const bool locked, IsDiffLocked(**directory));
  if (locked) return DiffInUse(path);
  return binding;
}

// Data files without a log are thrown away by Recover.
absl::Status DiffStore::StartOver() {
  assert(!prepared());
  v1::DiffBinding binding = binding_;
  binding.set_maker(maker_);
  PBKFS_RETURN_IF_ERROR(Bind(std::move(binding)));
  const auto file = directory_->OpenFile(kLogName, O_RDONLY | O_NONBLOCK, 0);
  if (!file.ok() && ErrnoOf(file.status()) == ENOENT) return absl::OkStatus();
  PageCacheEvidence evidence;
  if (file.ok()) {
    const absl::StatusOr<std::vector<uint8_t>> bytes = ReadLog(**file);
    const absl::StatusOr<ParsedLog> log = bytes.ok() ? ParseLog(*bytes) : bytes.status();
    if (log.ok()) evidence = LastEvidence(*log);
  }
  // First: nothing else knows the name of its file.
  RemoveEvidence(io_, evidence);
  return directory_->Remove(kLogName);
}

absl::StatusOr<DiffState> DiffStore::Recover(const LowerTree& lower, uint64_t session_nonce) {
  directory_->Remove(kNewLogName).IgnoreError();  // A checkpoint that was not finished.
  auto file = directory_->OpenFile(kLogName, O_RDWR, 0);
  Recovered recovered;
  if (file.ok()) {
    const RecoverySource source{io_, *directory_, *data_, {lower, owner_uid(), owner_gid()}, 0};
    PBKFS_ASSIGN_OR_RETURN(recovered, RecoverLog(source, **file));
    shutdown_kind_ = recovered.shutdown;
  } else if (ErrnoOf(file.status()) != ENOENT) {
    return file.status();
  } else if (binding_.prepared()) {
    return ReasonError(absl::StatusCode::kDataLoss, reason::kDiffCorrupt,
                       absl::StrCat("the log of the diff ", path_, " is missing"));
  }
  // After the recovery has asked for the errors of the session before, and before this one writes.
  evidence_ = BeginEvidence(io_, *directory_, path_);
  PBKFS_ASSIGN_OR_RETURN(witness_, directory_->OpenDir("."));
  OpenRecord open;
  open.session_nonce = session_nonce;
  open.evidence = evidence_;
  open.time = absl::ToUnixNanos(absl::Now());
  for (const uint64_t orphan : recovered.orphans) {
    recovered.state.names.Forget(orphan);
    recovered.state.inodes.erase(orphan);
  }
  PBKFS_RETURN_IF_ERROR(OpenLog(std::move(file), open, recovered));
  PBKFS_RETURN_IF_ERROR(TrashUnknownData(/*session_goes_on=*/false, &recovered.state));
  RemoveEvidence(io_, recovered.evidence);
  return std::move(recovered.state);
}

// Everything that the log says is confirmed when a diff is opened, so that each open can begin with
// a checkpoint: replay stays short, and a log file has one epoch. Without space for it the old log
// goes on, where it still tells the state.
absl::Status DiffStore::OpenLog(absl::StatusOr<std::unique_ptr<IoFile>> old_file, OpenRecord open,
                                Recovered& recovered) {
  auto log = ReplaceLogByCheckpoint(*directory_, recovered.state, open, recovered.generation + 1);
  if (log.ok()) {
    checkpoint_bytes_.store(log->position.end, std::memory_order_relaxed);
    for (auto& [ino, inode] : recovered.state.inodes) {
      inode->layout.Confirm(recovered.state.next_sequence - 1);
    }
    log_ = std::make_unique<MetaLog>(*std::move(log));
    return absl::OkStatus();
  }
  const int error = ErrnoOf(log.status());
  if (!old_file.ok() || recovered.needs_checkpoint || (error != ENOSPC && error != EDQUOT)) {
    return log.status();
  }
  spdlog::warn("diff {}: no space for a checkpoint of the log; it goes on as it is", path_);
  directory_->Remove(kNewLogName).IgnoreError();
  log_ = std::make_unique<MetaLog>(NewLog{*std::move(old_file), recovered.position});
  ConfirmSizes(&recovered.state);
  open.next_seed = RandomNonce();
  PBKFS_RETURN_IF_ERROR(log_->OpenEpoch(open));
  for (const uint64_t orphan : recovered.orphans) {
    ReapRecord reap;
    reap.ino = orphan;
    PBKFS_RETURN_IF_ERROR(log_->Append(reap).status());
  }
  return log_->Sync(log_->last_sequence());
}

bool DiffStore::CheckpointDue(int64_t growth_bytes) const {
  if (log_->SyncFailed()) return true;
  const int64_t bytes = log_->bytes();
  if (bytes < postponed_until_.load(std::memory_order_relaxed)) return false;
  const int64_t last = checkpoint_bytes_.load(std::memory_order_relaxed);
  // A large state is written less often, so that its cost stays in proportion to the growth.
  return bytes - last > std::max(growth_bytes, last);
}

absl::Status DiffStore::Checkpoint(const LowerTree& lower,
                                   absl::FunctionRef<std::vector<AnswerRecord>()> unanswered) {
  MutexLock lock(&checkpoint_mutex_);
  const absl::Status status = WriteCheckpoint(lower, unanswered);
  // The parsed log is several times as large as its bytes, and the allocator keeps what small
  // objects took.
  malloc_trim(0);
  return status;
}

absl::Status DiffStore::WriteCheckpoint(const LowerTree& lower,
                                        absl::FunctionRef<std::vector<AnswerRecord>()> unanswered) {
  const int64_t begin_bytes = log_->bytes();
  OnlineCheckpoint checkpoint(*directory_, {lower, owner_uid(), owner_gid()}, log_->file());
  absl::Status status = checkpoint.Begin(begin_bytes, unanswered());
  for (int round = 0; status.ok() && round < kMaxCheckpointRounds &&
                      log_->bytes() - checkpoint.taken() > kMaxCheckpointRemainder;
       ++round) {
    status = checkpoint.CarryOver(log_->bytes());
  }
  bool renamed = false;
  if (status.ok()) {
    status = log_->Replace([&](int64_t end, bool* name_given) -> absl::StatusOr<NewLog> {
      // However much came meanwhile: giving up would leave a log that grows, and whose next
      // checkpoint takes even longer.
      auto log = checkpoint.Finish(end, name_given);
      renamed = *name_given;
      return log;
    });
  }
  if (status.ok()) {
    // What was appended beside it counts as growth: the next checkpoint can make that shorter.
    checkpoint_bytes_.store(checkpoint.state_bytes(), std::memory_order_relaxed);
    postponed_until_.store(0, std::memory_order_relaxed);
    return status;
  }
  if (!renamed) checkpoint.Abandon();
  postponed_until_.store(begin_bytes + kPostponedCheckpointBytes, std::memory_order_relaxed);
  return Annotate(status, absl::StrCat("checkpoint of the diff ", path_));
}

absl::Status DiffStore::TrashUnknownData(bool session_goes_on, DiffState* state) {
  PBKFS_ASSIGN_OR_RETURN(const auto names, data_->List());
  absl::flat_hash_set<std::string> known;
  for (const auto& [ino, inode] : state->inodes) {
    if (inode->layout.has_data) known.insert(DataFileName(ino));
  }
  int moved = 0;
  for (const std::string& name : names) {
    if (known.contains(name)) continue;
    // Its number may have been given away before a crash and must never be used again.
    uint64_t ino = 0;
    if (absl::SimpleHexAtoi(name, &ino)) state->next_ino = std::max(state->next_ino, ino + 1);
    if (session_goes_on && ino >= kFirstNewIno && !state->inodes.contains(ino)) {
      // The process died before it removed the file. The number is never used again.
      state->doomed.push_back(ino);
      continue;
    }
    PBKFS_RETURN_IF_ERROR(data_->Rename(name, *trash_, name));
    ++moved;
  }
  if (moved == 0) return absl::OkStatus();
  spdlog::info("diff {}: {} data files that the log does not know are in trash/", path_, moved);
  // A file that came back under its name after a crash would pass for the one that is made next.
  return data_->Sync();
}

absl::Status DiffStore::Bind(v1::DiffBinding binding) {
  if (google::protobuf::util::MessageDifferencer::Equals(binding, binding_)) {
    return absl::OkStatus();
  }
  PBKFS_RETURN_IF_ERROR(WriteBinding(*directory_, binding));
  binding_ = std::move(binding);
  return absl::OkStatus();
}

absl::Status DiffStore::MarkPrepared(const std::vector<std::string>& guards, bool tablespace_links,
                                     const std::vector<std::string>& targets) {
  v1::DiffBinding binding = binding_;
  *binding.mutable_guards() = {guards.begin(), guards.end()};
  binding.set_tablespace_links(tablespace_links);
  *binding.mutable_targets() = {targets.begin(), targets.end()};
  binding.set_prepared(true);
  return Bind(std::move(binding));
}

absl::Status DiffStore::MarkUsedAt(const std::vector<std::string>& targets) {
  v1::DiffBinding binding = binding_;
  *binding.mutable_targets() = {targets.begin(), targets.end()};
  binding.clear_maker();
  return Bind(std::move(binding));
}

absl::Status DiffStore::MarkEphemeral(bool ephemeral) {
  v1::DiffBinding binding = binding_;
  binding.set_ephemeral(ephemeral);
  return Bind(std::move(binding));
}

std::vector<std::string> DiffStore::guards() const {
  return {binding_.guards().begin(), binding_.guards().end()};
}

std::vector<std::string> DiffStore::targets() const {
  return {binding_.targets().begin(), binding_.targets().end()};
}

absl::StatusOr<std::unique_ptr<IoFile>> DiffStore::CreateData(uint64_t ino) {
  auto file = data_->OpenFile(DataFileName(ino), O_RDWR | O_CREAT | O_EXCL, 0600);
  if (file.ok() || ErrnoOf(file.status()) != EEXIST) return file;
  // Left by a creation whose record failed: the log does not know it.
  PBKFS_RETURN_IF_ERROR(RemoveData(ino));
  PBKFS_RETURN_IF_ERROR(data_->Sync());
  return data_->OpenFile(DataFileName(ino), O_RDWR | O_CREAT | O_EXCL, 0600);
}

absl::StatusOr<std::unique_ptr<IoFile>> DiffStore::OpenData(uint64_t ino) {
  return data_->OpenFile(DataFileName(ino), O_RDWR, 0);
}

absl::Status DiffStore::RemoveData(uint64_t ino) { return data_->Remove(DataFileName(ino)); }

absl::Status DiffStore::SyncDataDirectory() {
  MutexLock lock(&data_sync_mutex_);
  // The kernel reports a failed sync once; nobody may believe that a later one makes up for it.
  if (data_sync_failed_.ok()) data_sync_failed_ = data_->Sync();
  return data_sync_failed_;
}

absl::StatusOr<int64_t> DiffStore::AllocatedBytes() {
  int64_t bytes = log_->bytes();
  PBKFS_ASSIGN_OR_RETURN(const auto names, data_->List());
  for (const std::string& name : names) {
    const auto file = data_->OpenFile(name, O_RDONLY, 0);
    if (!file.ok()) continue;  // Removed in between.
    PBKFS_ASSIGN_OR_RETURN(const struct stat attributes, (*file)->Stat());
    bytes += attributes.st_blocks * int64_t{512};
  }
  return bytes;
}

absl::Status DiffStore::MarkClean() {
  PBKFS_RETURN_IF_ERROR(RemoveAllIn(*trash_));
  CleanUnmountRecord clean;
  clean.time = absl::ToUnixNanos(absl::Now());
  PBKFS_ASSIGN_OR_RETURN(const uint64_t sequence, log_->Append(clean));
  PBKFS_RETURN_IF_ERROR(log_->Sync(sequence));
  RemoveEvidence(io_, evidence_);
  return absl::OkStatus();
}

}  // namespace pbkfs
