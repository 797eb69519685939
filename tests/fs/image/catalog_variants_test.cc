// Every kind of catalog that the writer knows, read through an image: the bytes are those of the
// cluster that was backed up, or the backup is refused.
#include "tests/support/catalog_variants.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "fs/base/status.h"
#include "fs/image/image.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

namespace ts = testsupport;

constexpr int64_t kPage = 8192;
// Files longer than this are compared block by block where something was written, and at their end.
constexpr int64_t kLongFileBytes = 64 << 20;

absl::StatusOr<std::shared_ptr<const Image>> OpenImage(const std::string& store,
                                                       const std::string& id) {
  PBKFS_ASSIGN_OR_RETURN(const auto catalog, Catalog::Open(store));
  PBKFS_ASSIGN_OR_RETURN(const auto instance, catalog->OpenInstance("main"));
  PBKFS_ASSIGN_OR_RETURN(const auto chain, ResolveChain(instance, id, false));
  return Image::Create(chain, ImageCaches::Create({}));
}

std::map<std::string, LowerNode> NodesByPath(const Image& image) {
  std::map<std::string, LowerNode> nodes;
  std::map<LowerIno, std::string> paths = {{kRootIno, ""}};
  for (LowerIno ino = kRootIno + 1; ino <= image.NodeCount(); ++ino) {
    const LowerNode node = *image.Node(ino);
    const std::string& parent = paths[node.parent];
    const std::string path =
        parent.empty() ? std::string(node.name) : absl::StrCat(parent, "/", node.name);
    paths[ino] = path;
    nodes[path] = node;
  }
  return nodes;
}

absl::StatusOr<std::string> Read(const LowerFile& file, int64_t offset, int64_t count) {
  std::string bytes(static_cast<size_t>(count), '?');
  PBKFS_RETURN_IF_ERROR(file.ReadAt(
      offset, absl::MakeSpan(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()), nullptr));
  return bytes;
}

std::string Text(const ts::Page& page) {
  return std::string(reinterpret_cast<const char*>(page.data()), page.size());
}

void ExpectLongFile(const LowerFile& file, const std::string& path, const ts::ModelCluster& cluster,
                    const ts::ModelFile& model) {
  std::vector<uint32_t> blocks = {2, model.n_blocks / 2, model.n_blocks - 2};
  for (const auto& [block, write] : model.blocks) blocks.push_back(block);
  for (const uint32_t block : blocks) {
    const auto bytes = Read(file, block * kPage, kPage);
    ASSERT_TRUE(bytes.ok()) << path << " block " << block << ": " << bytes.status();
    EXPECT_EQ(*bytes == Text(cluster.ExpectedPage(path, model, block)), true)
        << path << " block " << block << " has other bytes than were backed up";
  }
}

void ExpectFile(const Image& image, const LowerNode& node, const std::string& path,
                const ts::ModelCluster& cluster, const ts::ModelFile& model) {
  EXPECT_EQ(node.mode, model.mode) << path;
  if (model.kind == ts::ModelFile::Kind::kDirectory) return;
  ASSERT_EQ(node.size, ts::ModelCluster::Size(model)) << path;
  const auto file = image.Open(node.ino);
  ASSERT_TRUE(file.ok()) << path << ": " << file.status();
  ASSERT_EQ((*file)->Size(), node.size) << path;
  if (node.size > kLongFileBytes) return ExpectLongFile(**file, path, cluster, model);
  if (node.size == 0) return;
  const auto bytes = Read(**file, 0, node.size);
  ASSERT_TRUE(bytes.ok()) << path << ": " << bytes.status();
  const std::string expected = cluster.ExpectedBytes(path, model);
  size_t first = 0;
  while (first < expected.size() && expected[first] == (*bytes)[first]) ++first;
  EXPECT_EQ(first, expected.size())
      << path << " differs from what was backed up, first in block " << first / kPage;
}

void ExpectCluster(const Image& image, const ts::ModelCluster& cluster) {
  const std::map<std::string, LowerNode> nodes = NodesByPath(image);
  for (const auto& [key, file] : cluster.files()) {
    if (key.second != 0) continue;  // External directories are not part of PGDATA.
    const auto node = nodes.find(key.first);
    ASSERT_TRUE(node != nodes.end()) << key.first << " is missing";
    ExpectFile(image, node->second, key.first, cluster, file);
  }
  // Nothing that was dropped is there: relations of the model have numbers of their own.
  for (const auto& [path, node] : nodes) {
    if (path.starts_with("base/5/1") && S_ISREG(node.mode)) {
      EXPECT_TRUE(cluster.files().contains({path, 0})) << path << " was dropped";
    }
  }
}

class CatalogVariantsTest : public testing::TestWithParam<std::string> {};

TEST_P(CatalogVariantsTest, ReadsAsItWasBackedUpOrIsRefused) {
  const ts::TemporaryDirectory directory;
  const std::string store = directory.path() + "/catalog";
  const ts::CatalogVariant* variant = ts::FindCatalogVariant(GetParam());
  ASSERT_NE(variant, nullptr);
  for (const ts::VariantBackup& backup : variant->write(store, "main")) {
    SCOPED_TRACE(
        absl::StrCat("backup ", backup.id, " of generation ", backup.cluster.generation()));
    const auto image = OpenImage(store, backup.id);
    if (backup.readable == ts::Readable::kYes) {
      ASSERT_TRUE(image.ok()) << image.status();
    }
    if (backup.readable == ts::Readable::kNo) {
      EXPECT_FALSE(image.ok()) << "must be refused";
    } else if (image.ok()) {
      ExpectCluster(**image, backup.cluster);
    }
  }
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const ts::CatalogVariant& variant : ts::CatalogVariants()) names.push_back(variant.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, CatalogVariantsTest, testing::ValuesIn(Names()),
                         [](const testing::TestParamInfo<std::string>& tested) {
                           return absl::StrReplaceAll(tested.param, {{"-", "_"}, {".", "_"}});
                         });

}  // namespace
}  // namespace pbkfs
