// The images of the daemon. Mounts of the same backup share one Image, and with it the page indexes
// and decoded pages.
//
// An image lives as long as somebody uses it; the registry only remembers it. Safe from any thread.
#ifndef PBKFS_SERVICE_IMAGE_REGISTRY_H_
#define PBKFS_SERVICE_IMAGE_REGISTRY_H_

#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "fs/base/mutex.h"
#include "fs/catalog/unpacked_segments.h"
#include "fs/image/image.h"

namespace pbkfs {

class ImageRegistry {
 public:
  // `unpacked` serves the archives of WAL beside the images.
  ImageRegistry(std::shared_ptr<ImageCaches> caches, std::shared_ptr<UnpackedSegments> unpacked)
      : caches_(std::move(caches)), unpacked_(std::move(unpacked)) {}

  // The image of a backup ("" and "latest" as for ResolveChain). Always resolves the chain anew, so
  // a backup that was merged or replaced under the same id gets an image of its own.
  absl::StatusOr<std::shared_ptr<const Image>> Get(std::shared_ptr<const Instance> instance,
                                                   absl::string_view backup_id, bool force);

  const std::shared_ptr<UnpackedSegments>& unpacked_segments() const { return unpacked_; }
  ImageCacheFigures Figures() const { return caches_->Figures(); }

 private:
  const std::shared_ptr<ImageCaches> caches_;
  const std::shared_ptr<UnpackedSegments> unpacked_;
  Mutex mutex_;
  // By the path and control file identity of every member.
  std::map<std::string, std::weak_ptr<const Image>> images_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_IMAGE_REGISTRY_H_
