// What tests of images share: a catalog in a temporary directory, and reading files by path.
#ifndef PBKFS_TESTS_FS_IMAGE_IMAGE_FIXTURE_H_
#define PBKFS_TESTS_FS_IMAGE_IMAGE_FIXTURE_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "fs/base/status.h"
#include "fs/image/image.h"
#include "tests/support/catalog_writer.h"
#include "tests/support/files.h"
#include "tests/support/synthetic_cluster.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {

namespace ts = testsupport;

inline constexpr char kRelation[] = "base/5/20000";
inline constexpr int64_t kPage = 8192;

class ImageTest : public testing::Test {
 protected:
  std::unique_ptr<ts::Backup> Begin(ts::BackupMode mode, ts::BackupOptions options = {}) {
    auto backup = writer_.Begin(mode, std::move(options));
    ts::ClusterOptions cluster;
    cluster.wal = false;
    ts::AddMinimalCluster(*backup, cluster);
    return backup;
  }

  absl::StatusOr<std::shared_ptr<const Image>> TryImage(const std::string& id) {
    const auto catalog = Catalog::Open(store_);
    EXPECT_TRUE(catalog.ok()) << catalog.status();
    auto chain = ResolveChain(*(*catalog)->OpenInstance("main"), id, false);
    if (!chain.ok()) return chain.status();
    return Image::Create(*chain, caches_);
  }

  std::shared_ptr<const Image> MakeImage(const std::string& id) {
    auto image = TryImage(id);
    EXPECT_TRUE(image.ok()) << image.status();
    return image.ok() ? *image : nullptr;
  }

  static std::optional<LowerNode> Find(const LowerTree& tree, absl::string_view path) {
    std::optional<LowerNode> node = tree.Node(kRootIno);
    for (const absl::string_view name : absl::StrSplit(path, '/')) {
      if (node.has_value()) node = tree.Lookup(node->ino, name);
    }
    return node;
  }

  // The whole content, or the error.
  absl::StatusOr<std::string> Read(const LowerTree& tree, absl::string_view path) {
    const auto node = Find(tree, path);
    if (!node.has_value()) return absl::NotFoundError(path);
    const auto file = tree.Open(node->ino);
    if (!file.ok()) return file.status();
    EXPECT_EQ((*file)->Size(), node->size);
    std::string content(static_cast<size_t>(node->size), '?');
    const absl::Status status = (*file)->ReadAt(
        0, absl::MakeSpan(reinterpret_cast<uint8_t*>(content.data()), content.size()), &stats_);
    if (!status.ok()) return status;
    return content;
  }

  static std::string Text(const ts::Page& page) {
    return std::string(reinterpret_cast<const char*>(page.data()), page.size());
  }

  std::string Stored(const std::string& id, absl::string_view path) {
    return absl::StrCat(writer_.BackupDirectory(id), "/database/", path);
  }

  // Flips one byte in place, as a bad disk does.
  void Damage(const std::string& path, size_t offset) {
    std::string bytes = ts::ReadWholeFile(path);
    ASSERT_LT(offset, bytes.size());
    bytes[offset] ^= 0x10;
    const int fd = open(path.c_str(), O_WRONLY);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(pwrite(fd, &bytes[offset], 1, static_cast<off_t>(offset)), 1);
    close(fd);
  }

  uint64_t Count(IoCounter counter) { return stats_.Snapshot()[counter]; }

  ts::TemporaryDirectory directory_;
  const std::string store_ = directory_.path() + "/catalog";
  ts::CatalogWriter writer_{store_, "main"};
  std::shared_ptr<ImageCaches> caches_ = ImageCaches::Create({});
  IoStats stats_;
};

inline ts::PageSource Pages(uint64_t seed, ts::PageFill fill = ts::PageFill::kText) {
  return [seed, fill](uint32_t block) {
    return std::optional(ts::MakePage(seed, 0x4000028, block, fill));
  };
}

}  // namespace pbkfs

#endif  // PBKFS_TESTS_FS_IMAGE_IMAGE_FIXTURE_H_
