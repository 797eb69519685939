// A relation segment: pages assembled from all members of a chain.
#ifndef PBKFS_FS_IMAGE_PAGED_FILE_H_
#define PBKFS_FS_IMAGE_PAGED_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fs/base/lower_tree.h"
#include "fs/image/image_core.h"
#include "fs/image/page_index.h"

namespace pbkfs {

// Opens nothing until the first read. Thread-safe; reading threads share no lock beyond those of
// the caches.
class PagedImageFile final : public LowerFile {
 public:
  // `tip_entry` is a page stream with a size other than 0; `size` a multiple of 8192.
  PagedImageFile(std::shared_ptr<const ImageCore> core, LowerIno ino, const FileEntry& tip_entry,
                 int64_t size);

  int64_t Size() const override { return size_; }
  absl::Status ReadAt(int64_t offset, absl::Span<uint8_t> out, IoStats* stats) const override;

 private:
  // A block of the request that has to be read and decoded.
  struct Wanted {
    int64_t block;
    PageLocation location;
    size_t offset;            // Where in the page the wanted bytes begin.
    absl::Span<uint8_t> out;  // Where they go.
    bool done;
  };
  struct Request {
    const PageIndex& index;
    bool keep;  // Put decoded pages into the cache.
    IoStats* stats;
  };

  absl::Status ReadBlocks(const Request& request, int64_t offset, absl::Span<uint8_t> out) const;
  // Reads the records that lie near wanted[first] in the same stored file, and decodes them.
  absl::Status ReadRun(const Request& request, absl::Span<Wanted> wanted, size_t first) const;
  absl::Status DecodeRecord(const Request& request, const Wanted& wanted,
                            absl::Span<const uint8_t> record) const;
  // Why the record is not the page that it should be, or "". `page` gets the 8192 bytes.
  std::string DecodeChecked(const Wanted& wanted, absl::Span<const uint8_t> record, uint8_t* page,
                            IoCounter& kind) const;
  std::string Describe(const Wanted& wanted) const;
  PageKey KeyOf(int64_t block) const { return {core_->id(), ino_, static_cast<uint32_t>(block)}; }

  const std::shared_ptr<const ImageCore> core_;
  const LowerIno ino_;
  const FileEntry& tip_entry_;
  std::vector<const FileEntry*> stored_;  // By member; null where it stores nothing of the file.
  const int64_t size_;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_IMAGE_PAGED_FILE_H_
