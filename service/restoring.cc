// What the mount manager does when it starts: mounts that another worker served go on, mounts that
// ended with another daemon are made again.
#include <sys/vfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <future>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/plain_path.h"
#include "fs/base/status.h"
#include "fs/diff/diff_store.h"
#include "fs/diff/page_cache_evidence.h"
#include "service/limits.h"
#include "service/lock_plan.h"
#include "service/mount_manager.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

// Whether nothing serves the mount any more. A mount that is served may not answer for long, so
// that the question is asked in a thread of its own, which ends when the answer comes.
bool IsDead(const std::string& mount_point) {
  auto answer = std::make_shared<std::promise<int>>();
  std::future<int> error = answer->get_future();
  std::thread([answer, mount_point] {
    // Never answered from a cache.
    struct statfs fs;
    answer->set_value(statfs(mount_point.c_str(), &fs) == 0 ? 0 : errno);
  }).detach();
  return error.wait_for(kDeadMountAnswer) == std::future_status::ready && error.get() == ENOTCONN;
}

}  // namespace

void MountManager::CleanTarget(const std::string& mount_id, const std::string& target) {
  {
    MutexLock lock(&mutex_);
    for (const auto& [id, slot] : slots_) {
      if (id == mount_id || slot.paths.target == target) return;
    }
  }
  const std::string source = absl::StrCat("pbkfs:", mount_id);
  for (const MountInfoEntry& entry : ReadMountInfo().value_or(std::vector<MountInfoEntry>())) {
    if (entry.mount_point != target || entry.source != source || !entry.IsPbkfs()) continue;
    if (!IsDead(target)) {
      spdlog::warn("mount {}: another daemon serves it at {}", mount_id, target);
      continue;
    }
    const absl::Status detached = DetachFuse(target);
    spdlog::info("mount {}: the mount that the last daemon left at {} is detached: {}", mount_id,
                 target, detached.ToString());
  }
}

absl::Status MountManager::Resume(std::vector<HeldMount> held) {
  PBKFS_ASSIGN_OR_RETURN(const std::vector<v1::MountRecord> records, environment_.registry.Load());
  std::map<std::string, const v1::MountRecord*> by_id;
  for (const v1::MountRecord& record : records) by_id[record.request().mount_id()] = &record;
  // Before anything is touched: the program that wrote it can go on.
  for (const HeldMount& mount : held) {
    if (by_id.count(mount.id) > 0) continue;
    const absl::Status found = environment_.registry.Find(mount.id).status();
    if (absl::IsUnimplemented(found)) {
      return Annotate(found, absl::StrCat("the record of the mount ", mount.id));
    }
  }
  std::vector<absl::Status> results(held.size());
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next++; i < held.size(); i = next++) {
      const auto record = by_id.find(held[i].id);
      if (record != by_id.end()) {
        ResumeOne(*record->second, std::move(held[i]), &results[i]);
        continue;
      }
      // Unmount had removed its record, and was about to say so.
      if (held[i].Has(kHeldUnmounted)) {
        results[i] = environment_.keeper.Forget(held[i].id);
        continue;
      }
      spdlog::error("mount {}: its record is missing in the state directory", held[i].id);
      results[i] = environment_.keeper.EndConnection(held[i].id, "its record is missing");
    }
  };
  std::vector<std::thread> threads;
  while (threads.size() + 1 < std::min(kResumeThreads, held.size())) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& result : results) PBKFS_RETURN_IF_ERROR(result);
  return absl::OkStatus();
}

void MountManager::ResumeOne(const v1::MountRecord& record, HeldMount held, absl::Status* status) {
  absl::StatusOr<std::shared_ptr<LiveMount>> mount =
      LiveMount::Resume(record, std::move(held), images_, environment_);
  *status = mount.status();
  if (!mount.ok()) return;
  MutexLock lock(&mutex_);
  Slot& slot = slots_[record.request().mount_id()];
  slot.paths = (*mount)->paths();
  slot.request = record.request();
  slot.mount = *std::move(mount);
}

void MountManager::StartRestoring() {
  const absl::StatusOr<std::vector<v1::MountRecord>> records = environment_.registry.Load();
  std::vector<v1::MountRecord> missing;
  if (records.ok()) {
    MutexLock lock(&mutex_);
    for (const v1::MountRecord& record : *records) {
      if (slots_.count(record.request().mount_id()) > 0) continue;
      awaited_[record.request().mount_id()] = {record.request().target(), record.diff_path()};
      missing.push_back(record);
    }
  }
  restoring_ = std::thread([this, missing = std::move(missing)] { Restore(missing); });
}

void MountManager::Restore(const std::vector<v1::MountRecord>& records) {
  for (const auto& mount : Mounts()) {
    if (!mount->unmount_was_begun()) continue;
    v1::UnmountRequest request;
    request.set_mount_id(mount->id());
    const auto response = Unmount(request, Caller::Daemon());
    if (!response.ok()) {
      spdlog::error("finishing to unmount {}: {}", mount->id(), response.status().ToString());
    }
  }
  for (const v1::MountRecord& record : records) {
    RestoreOne(record);
    MutexLock lock(&mutex_);
    awaited_.erase(record.request().mount_id());
  }
  DiffStore::FinishDeletions(environment_.io, absl::StrCat(policy_.state_directory(), "/diffs"));
  {
    MutexLock lock(&mutex_);
    restored_ = true;
    restoring_ended_.SignalAll();
  }
  LockCatalogs();
  CollectEvidence(environment_.io);
}

void MountManager::WaitForRestoring() {
  MutexLock lock(&mutex_);
  while (!restored_) restoring_ended_.Wait(&mutex_);
}

void MountManager::RestoreOne(const v1::MountRecord& record) {
  const std::string& id = record.request().mount_id();
  CleanTarget(id, record.target_path());
  if (record.made_target()) RemovePlainDirectory(record.target_path()).IgnoreError();
  absl::Status status;
  if (record.begun()) {
    spdlog::warn("mount {}: it was not completed, and is undone", id);
    // Also where the plan was to use one that was deleted just then.
    if (record.made_diff() || record.diff_maker() != 0) RemoveMadeDiff(environment_.io, record);
    status = environment_.registry.Remove(id);
  } else if (record.delete_diff()) {
    status = RemoveDiff(environment_.io, record.diff_path());
    if (status.ok()) status = environment_.registry.Remove(id);
  } else if (record.request().restore() || record.boot_id() == BootId()) {
    v1::MountRequest request = record.request();
    // The diff belongs to the backup that "latest" was.
    request.set_backup_id(record.mount().backup_id());
    spdlog::info("mount {}: it is made again", id);
    status = MountFor(Origin::kAgain, request, Caller::Daemon(), [] { return false; }).status();
  } else {
    spdlog::info("mount {}: it ended with the last boot and is not made again", id);
    status = environment_.registry.Remove(id);
  }
  if (status.ok()) return;
  spdlog::error(
      "mount {} is not made again: {}; the next start tries it, pbkfs unmount {} forgets it", id,
      status.ToString(), id);
}

void MountManager::LockCatalogs() {
  for (const auto& [id, mount] : SharedMounts()) {
    const v1::Mount description = mount->Describe();
    if (description.catalog_locked() || description.state() != v1::MOUNT_STATE_ACTIVE ||
        description.catalog_lock() == v1::CATALOG_LOCK_OFF) {
      continue;
    }
    absl::StatusOr<std::unique_ptr<CatalogLock>> lock = LockAgain(mount->plan(), locker_);
    if (lock.ok()) {
      mount->SetCatalogLock(*std::move(lock));
    } else {
      spdlog::warn("mount {}: the catalog is not locked: {}", id, lock.status().ToString());
    }
  }
}

std::map<std::string, std::shared_ptr<LiveMount>> MountManager::SharedMounts() const {
  std::map<std::string, std::shared_ptr<LiveMount>> mounts;
  MutexLock lock(&mutex_);
  for (const auto& [id, slot] : slots_) {
    if (slot.mount != nullptr) mounts[id] = slot.mount;
  }
  return mounts;
}

}  // namespace pbkfs
