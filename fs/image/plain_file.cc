#include "fs/image/plain_file.h"

#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/catalog/beneath.h"
#include "fs/image/page_errors.h"

namespace pbkfs {
namespace {

absl::Status OutOfRange(int64_t offset, size_t count, int64_t size) {
  return absl::OutOfRangeError(absl::StrCat("a read of ", count, " bytes at ", offset,
                                            " lies outside of the file's ", size, " bytes"));
}

class EmptyFile final : public LowerFile {
 public:
  int64_t Size() const override { return 0; }
  absl::Status ReadAt(int64_t offset, absl::Span<uint8_t> out, IoStats*) const override {
    if (offset == 0 && out.empty()) return absl::OkStatus();
    return OutOfRange(offset, out.size(), 0);
  }
};

}  // namespace

std::shared_ptr<const LowerFile> EmptyImageFile() {
  static const std::shared_ptr<const LowerFile>& file =
      *new std::shared_ptr<const LowerFile>(std::make_shared<EmptyFile>());
  return file;
}

PlainImageFile::PlainImageFile(std::shared_ptr<const ImageCore> core, size_t member,
                               const FileEntry& entry)
    : core_(std::move(core)), member_(member), entry_(entry) {
  assert(entry.size > 0);
}

absl::StatusOr<std::shared_ptr<const LowerFile>> PlainImageFile::Open(
    std::shared_ptr<const ImageCore> core, size_t member, const FileEntry& entry) {
  auto file = std::make_shared<PlainImageFile>(std::move(core), member, entry);
  const absl::Status status = file->core_->OpenCopy(member, entry).status();
  if (!status.ok()) return file->Failed(nullptr, status);
  return std::shared_ptr<const LowerFile>(std::move(file));
}

absl::Status PlainImageFile::ReadAt(int64_t offset, absl::Span<uint8_t> out, IoStats* stats) const {
  if (offset < 0 || offset > entry_.size ||
      static_cast<int64_t>(out.size()) > entry_.size - offset) {
    return OutOfRange(offset, out.size(), entry_.size);
  }
  if (out.empty()) return absl::OkStatus();
  absl::StatusOr<StoredFiles::FilePtr> file = core_->OpenCopy(member_, entry_);
  absl::Status status = file.status();
  if (status.ok()) status = ReadExactly((*file)->fd.get(), offset, out);
  if (status.ok()) status = core_->chain().State();
  return status.ok() ? status : Failed(stats, status);
}

absl::Status PlainImageFile::Failed(IoStats* stats, const absl::Status& cause) const {
  return ReportPageError(stats, IoCounter::kPageErrorsIo,
                                       core_->Describe(member_, entry_.path), cause);
}

}  // namespace pbkfs
