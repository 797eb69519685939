#include "service/image_registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"

namespace pbkfs {
namespace {

std::string KeyOf(const Chain& chain) {
  std::string key = absl::StrCat(chain.instance->path(), "\n", chain.tip().id);
  for (const auto& member : chain.members) {
    const FileIdentity& control = member->control_identity;
    absl::StrAppend(&key, "\n", member->path, ":", control.device, ":", control.inode, ":",
                    control.size, ":", control.modified.tv_sec, ".", control.modified.tv_nsec);
  }
  return key;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Image>> ImageRegistry::Get(
    std::shared_ptr<const Instance> instance, absl::string_view backup_id, bool force) {
  PBKFS_ASSIGN_OR_RETURN(std::shared_ptr<const Chain> chain,
                         ResolveChain(std::move(instance), backup_id, force));
  const std::string key = KeyOf(*chain);
  {
    MutexLock lock(&mutex_);
    const auto it = images_.find(key);
    if (it != images_.end()) {
      if (std::shared_ptr<const Image> image = it->second.lock()) return image;
    }
  }
  // Built without the lock: a big list takes a while. Of two that are built at once the first is
  // kept.
  PBKFS_ASSIGN_OR_RETURN(std::shared_ptr<const Image> built,
                         Image::Create(std::move(chain), caches_));
  MutexLock lock(&mutex_);
  for (auto it = images_.begin(); it != images_.end();) {
    it = it->second.expired() ? images_.erase(it) : std::next(it);
  }
  std::weak_ptr<const Image>& slot = images_[key];
  if (std::shared_ptr<const Image> image = slot.lock()) return image;
  slot = built;
  return built;
}

}  // namespace pbkfs
