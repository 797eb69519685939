#include "fs/image/stored_files.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/catalog/beneath.h"

namespace pbkfs {
namespace {

// Relative to the directory of the member that stores it.
std::string StoredPath(const FileEntry& entry) {
  if (entry.external_dir == 0) return absl::StrCat("database/", entry.path);
  return absl::StrCat("external_directories/externaldir", entry.external_dir, "/", entry.path);
}

absl::StatusOr<std::shared_ptr<const StoredFile>> OpenStored(const Chain& chain, size_t member,
                                                             const FileEntry* entry) {
  const ChainMember& owner = *chain.members[member];
  const std::string path = entry == nullptr ? std::string("page_header_map") : StoredPath(*entry);
  absl::StatusOr<OpenedFile> opened = chain.Open(member, path);
  if (absl::IsUnavailable(opened.status())) return opened.status();
  if (!opened.ok()) return Annotate(opened.status(), absl::StrCat("backup ", owner.id));
  if (entry != nullptr && opened->identity.size != entry->size) {
    return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt,
                       absl::StrCat("backup ", owner.id, ": ", path, " has ", opened->identity.size,
                                    " bytes, but the list of files says ", entry->size));
  }
  auto file = std::make_shared<StoredFile>();
  file->fd = std::move(opened->fd);
  file->identity = opened->identity;
  return std::shared_ptr<const StoredFile>(std::move(file));
}

}  // namespace

absl::StatusOr<StoredFiles::FilePtr> StoredFiles::Open(uint64_t image_id, const Chain& chain,
                                                       size_t member, const FileEntry* entry) {
  const Key key({image_id, member}, entry);
  {
    MutexLock lock(&mutex_);
    const auto found = slots_.find(key);
    if (found != slots_.end()) {
      recency_.splice(recency_.begin(), recency_, found->second);
      return found->second->file;
    }
  }
  PBKFS_ASSIGN_OR_RETURN(FilePtr file, OpenStored(chain, member, entry));
  FilePtr closed;  // Outlives the lock: closing a file can take long on a network file system.
  MutexLock lock(&mutex_);
  const auto found = slots_.find(key);
  if (found != slots_.end()) {
    closed = std::move(file);
    return found->second->file;  // Another thread was faster.
  }
  recency_.push_front({key, std::move(file)});
  slots_.emplace(key, recency_.begin());
  FilePtr result = recency_.front().file;
  if (recency_.size() > max_open_) {
    closed = std::move(recency_.back().file);
    slots_.erase(recency_.back().key);
    recency_.pop_back();
  }
  return result;
}

void StoredFiles::Forget(uint64_t image_id) {
  std::list<Slot> closed;
  MutexLock lock(&mutex_);
  for (auto slot = recency_.begin(); slot != recency_.end();) {
    const auto current = slot++;
    if (current->key.first.first != image_id) continue;
    slots_.erase(current->key);
    closed.splice(closed.end(), recency_, current);
  }
}

size_t StoredFiles::OpenCount() const {
  MutexLock lock(&mutex_);
  return recency_.size();
}

}  // namespace pbkfs
