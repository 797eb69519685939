// A diff whose process died goes on in another one, without a look at the disk's state: everything
// is in the page cache, because somebody held the diff open all the time.
#include <fcntl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/diff/diff_directory.h"
#include "fs/diff/diff_store.h"

namespace pbkfs {

absl::StatusOr<std::unique_ptr<DiffStore>> DiffStore::TakeOver(Io& io,
                                                               std::unique_ptr<IoDir> directory,
                                                               const std::string& path,
                                                               const DiffIdentity& identity) {
  auto store = std::unique_ptr<DiffStore>(new DiffStore(io, path, 0));
  store->directory_ = std::move(directory);
  PBKFS_ASSIGN_OR_RETURN(std::optional<v1::DiffBinding> binding, ReadBinding(*store->directory_));
  if (!binding.has_value()) {
    return ReasonError(absl::StatusCode::kDataLoss, reason::kDiffCorrupt,
                       absl::StrCat("the diff ", path, " has lost its binding.json"));
  }
  PBKFS_RETURN_IF_ERROR(CheckBinding(*binding, identity, path));
  store->binding_ = *std::move(binding);
  PBKFS_RETURN_IF_ERROR(store->OpenDirectories());
  return store;
}

absl::StatusOr<DiffState> DiffStore::Resume(const LowerTree& lower, uint64_t session_nonce,
                                            const absl::flat_hash_set<uint64_t>& held) {
  directory_->Remove(kNewLogName).IgnoreError();  // A checkpoint that was not finished.
  PBKFS_ASSIGN_OR_RETURN(auto file, directory_->OpenFile(kLogName, O_RDWR, 0));
  const RecoverySource source{
      io_, *directory_, *data_, {lower, owner_uid(), owner_gid()}, session_nonce};
  PBKFS_ASSIGN_OR_RETURN(Recovered recovered, RecoverLog(source, *file));
  shutdown_kind_ = ShutdownKind::kProcessDied;
  evidence_ = recovered.evidence;
  log_ = std::make_unique<MetaLog>(NewLog{std::move(file), recovered.position});
  ConfirmSizes(&recovered.state);
  for (const CutRecord& cut : recovered.cuts) PBKFS_RETURN_IF_ERROR(log_->Append(cut).status());
  for (const uint64_t orphan : recovered.orphans) {
    if (held.contains(orphan)) continue;
    ReapRecord reap;
    reap.ino = orphan;
    PBKFS_RETURN_IF_ERROR(log_->Append(reap).status());
    recovered.state.names.Forget(orphan);
    recovered.state.inodes.erase(orphan);
  }
  PBKFS_RETURN_IF_ERROR(TrashUnknownData(/*session_goes_on=*/true, &recovered.state));
  return std::move(recovered.state);
}

}  // namespace pbkfs
