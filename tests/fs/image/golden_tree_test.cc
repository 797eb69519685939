// Every backup of every real catalog, against the manifest of what a real restore of it gave.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fs/base/sha256.h"
#include "fs/image/image.h"
#include "tests/support/must_run.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_catalogs.h"

namespace pbkfs {
namespace {

using testsupport::FindTestCatalogs;
using testsupport::MustRunAllTests;
using testsupport::TestCatalog;

struct ManifestEntry {
  char type = 0;
  uint32_t mode = 0;
  int64_t size = 0;
  std::string sha256;
};
using Manifest = std::map<std::string, ManifestEntry>;

Manifest ReadManifest(const std::string& path) {
  Manifest manifest;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, '\t');
    if (fields.size() != 6) continue;
    ManifestEntry entry;
    entry.type = fields[1][0];
    entry.mode = static_cast<uint32_t>(std::stoul(fields[2], nullptr, 8));
    entry.size = fields[3] == "-" ? 0 : std::stoll(fields[3]);
    entry.sha256 = fields[4];
    manifest[fields[0] == "." ? "" : fields[0]] = entry;
  }
  return manifest;
}

std::string PathOf(const LowerTree& tree, const LowerNode& node) {
  if (node.ino == kRootIno) return "";
  const LowerNode parent = *tree.Node(node.parent);
  return parent.ino == kRootIno ? std::string(node.name)
                                : absl::StrCat(PathOf(tree, parent), "/", node.name);
}

// The differences between an image and a restored tree that are by design.
bool IsSizeAndContentRewritten(const std::string& path) { return path == "postgresql.auto.conf"; }
bool IsCreatedByRestore(const std::string& path) { return path == "recovery.signal"; }

std::string HashOf(const LowerFile& file, size_t chunk_bytes, IoStats* stats) {
  Sha256 hash;
  std::vector<uint8_t> buffer(chunk_bytes);
  for (int64_t offset = 0; offset < file.Size();) {
    const auto count = std::min<int64_t>(file.Size() - offset, static_cast<int64_t>(chunk_bytes));
    const auto part = absl::MakeSpan(buffer).first(static_cast<size_t>(count));
    const absl::Status status = file.ReadAt(offset, part, stats);
    if (!status.ok()) return status.ToString();
    hash.Update(part.data(), part.size());
    offset += count;
  }
  return hash.FinishHex();
}

void CompareFile(const Image& image, const LowerNode& node, const std::string& path,
                 const ManifestEntry& golden, IoStats* stats) {
  EXPECT_EQ(golden.type, 'f') << path;
  // pg_control is restored with the mode of the umask, but listed with its own.
  EXPECT_EQ(node.mode & 07777, path == "global/pg_control" ? 0600 : golden.mode) << path;
  const auto file = image.Open(node.ino);
  ASSERT_TRUE(file.ok()) << path << ": " << file.status();
  EXPECT_EQ((*file)->Size(), node.size) << path;
  if (IsSizeAndContentRewritten(path)) return;
  EXPECT_EQ(node.size, golden.size) << path;
  // An odd size so that most requests begin and end inside of pages.
  EXPECT_EQ(HashOf(**file, 300007, stats), golden.sha256) << path;
}

void CompareNode(const Image& image, LowerIno ino, Manifest& manifest, IoStats* stats) {
  const LowerNode node = *image.Node(ino);
  const std::string path = PathOf(image, node);
  const auto found = manifest.find(path);
  ASSERT_TRUE(found != manifest.end()) << path << " is in the image, but was not restored";
  const ManifestEntry golden = found->second;
  manifest.erase(found);
  ASSERT_EQ(image.Lookup(node.parent, node.name).has_value(), ino != kRootIno) << path;
  if (S_ISDIR(node.mode)) {
    if (golden.type == 'l') {
      EXPECT_TRUE(absl::StartsWith(path, "pg_tblspc/")) << path;
    } else {
      EXPECT_EQ(golden.type, 'd') << path;
      EXPECT_EQ(node.mode & 07777 & ~022u, golden.mode) << path;
    }
    return;
  }
  EXPECT_EQ(image.Lookup(node.parent, node.name)->ino, ino) << path;
  CompareFile(image, node, path, golden, stats);
}

std::shared_ptr<const Image> MakeImage(const TestCatalog& catalog, const std::string& id,
                                       std::shared_ptr<ImageCaches> caches) {
  const auto opened = Catalog::Open(catalog.catalog);
  EXPECT_TRUE(opened.ok()) << opened.status();
  const auto instance = (*opened)->OpenInstance("main");
  EXPECT_TRUE(instance.ok()) << instance.status();
  const auto chain = ResolveChain(*instance, id, false);
  EXPECT_TRUE(chain.ok()) << chain.status();
  if (!chain.ok()) return nullptr;
  const auto image = Image::Create(*chain, std::move(caches));
  EXPECT_TRUE(image.ok()) << image.status();
  return image.ok() ? *image : nullptr;
}

std::vector<std::string> BackupIds(const TestCatalog& catalog) {
  const auto opened = Catalog::Open(catalog.catalog);
  EXPECT_TRUE(opened.ok()) << opened.status();
  const auto instance = (*opened)->OpenInstance("main");
  EXPECT_TRUE(instance.ok()) << instance.status();
  const auto backups = (*instance)->ListBackups();
  EXPECT_TRUE(backups.ok()) << backups.status();
  std::vector<std::string> ids;
  for (const Backup& backup : *backups) ids.push_back(backup.id);
  return ids;
}

class GoldenTreeTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string problem;
    catalogs_ = FindTestCatalogs(problem);
    if (!catalogs_.empty()) return;
    if (MustRunAllTests()) FAIL() << problem;
    GTEST_SKIP() << problem;
  }
  std::vector<TestCatalog> catalogs_;
};

// Compares every image of the catalogs; returns how many there were.
int CompareCatalogs(const std::vector<TestCatalog>& catalogs,
                    const std::shared_ptr<ImageCaches>& caches) {
  int compared = 0;
  for (const TestCatalog& catalog : catalogs) {
    if (catalog.golden.empty()) continue;
    for (const std::string& id : BackupIds(catalog)) {
      SCOPED_TRACE(absl::StrCat(catalog.name, " ", id));
      Manifest manifest = ReadManifest(absl::StrCat(catalog.golden, "/", id, ".manifest.tsv"));
      EXPECT_FALSE(manifest.empty()) << "no manifest";
      const auto image = MakeImage(catalog, id, caches);
      if (image == nullptr) continue;
      IoStats stats;
      for (LowerIno ino = 1; ino <= image->NodeCount(); ++ino) {
        CompareNode(*image, ino, manifest, &stats);
      }
      for (const auto& [path, entry] : manifest) {
        EXPECT_TRUE(IsCreatedByRestore(path)) << path << " was restored, but is not in the image";
      }
      const IoSnapshot figures = stats.Snapshot();
      EXPECT_EQ(figures[IoCounter::kPageErrorsChecksum], 0u);
      EXPECT_EQ(figures[IoCounter::kPageErrorsFormat], 0u);
      EXPECT_EQ(figures[IoCounter::kPageErrorsIo], 0u);
      EXPECT_NE(image->info().system_identifier, 0u);
      EXPECT_EQ(image->info().pg_control_version, 1300u);
      ++compared;
    }
  }
  return compared;
}

TEST_F(GoldenTreeTest, EveryImageIsTheTreeThatRestoreGave) {
  EXPECT_GT(CompareCatalogs(catalogs_, ImageCaches::Create({})), 0);
}

// A copy of `from` without any page_header_map: of hard links where that is possible.
void CopyWithoutMaps(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::filesystem::create_directories(to);
  for (const auto& entry : std::filesystem::directory_iterator(from)) {
    const std::filesystem::path target = to / entry.path().filename();
    std::error_code error;
    if (entry.is_directory()) {
      CopyWithoutMaps(entry.path(), target);
    } else if (entry.path().filename() != "page_header_map") {
      std::filesystem::create_hard_link(entry.path(), target, error);
      if (error) std::filesystem::copy_file(entry.path(), target);
    }
  }
}

TEST_F(GoldenTreeTest, WithoutHeaderMapsTheScansGiveTheSameTrees) {
  const testsupport::TemporaryDirectory directory;
  std::vector<TestCatalog> copies;
  for (TestCatalog copy : catalogs_) {
    const std::string from = std::exchange(copy.catalog, directory.path() + "/" + copy.name);
    CopyWithoutMaps(from, copy.catalog);
    copies.push_back(copy);
  }
  spdlog::set_level(spdlog::level::err);  // A warning for each of thousands of files is meant.
  ImageCacheOptions options;
  options.index_cache_directory = directory.path() + "/indexes";
  const auto caches = ImageCaches::Create(options);
  EXPECT_GT(CompareCatalogs(copies, caches), 0);
  EXPECT_GT(caches->Figures().stream_scans, 0u);
  EXPECT_GT(caches->Figures().index_cache_directory_bytes, 0);
  spdlog::set_level(spdlog::level::info);
}

// Reads random pieces of random files until `reads` are done, and compares them with `contents`.
void ReadRandomly(const Image& image, const std::map<LowerIno, std::string>& contents,
                  uint32_t seed, int reads, std::atomic<int>& failures) {
  std::mt19937 random(seed);
  std::vector<LowerIno> inos;
  for (const auto& [ino, content] : contents) inos.push_back(ino);
  std::vector<uint8_t> buffer(600000);
  for (int i = 0; i < reads; ++i) {
    const LowerIno ino = inos[random() % inos.size()];
    const std::string& content = contents.at(ino);
    const size_t offset = random() % content.size();
    const size_t limit = random() % 4 == 0 ? buffer.size() : 20000;
    const size_t count = std::min(content.size() - offset, random() % limit);
    const auto part = absl::MakeSpan(buffer).first(count);
    const auto file = image.Open(ino);
    if (!file.ok() || !(*file)->ReadAt(static_cast<int64_t>(offset), part, nullptr).ok() ||
        memcmp(part.data(), content.data() + offset, count) != 0) {
      ADD_FAILURE() << "inode " << ino << ", " << count << " bytes at " << offset << ", seed "
                    << seed;
      ++failures;
      return;
    }
  }
}

TEST_F(GoldenTreeTest, ConcurrentReadersWithTinyCachesSeeTheSameBytes) {
  for (const TestCatalog& catalog : catalogs_) {
    if (catalog.name == "seg") continue;  // Its size would only make the test slow.
    SCOPED_TRACE(catalog.name);
    const std::string id = BackupIds(catalog).back();
    // Budgets that make indexes and pages come and go all the time.
    ImageCacheOptions options;
    options.page_index_bytes = 20000;
    options.decoded_page_bytes = 64 * 8192;
    const auto caches = ImageCaches::Create(options);
    const auto image = MakeImage(catalog, id, caches);
    const auto reference = MakeImage(catalog, id, ImageCaches::Create({}));
    ASSERT_NE(image, nullptr);
    ASSERT_NE(reference, nullptr);
    std::map<LowerIno, std::string> contents;
    for (LowerIno ino = 1; ino <= reference->NodeCount(); ++ino) {
      const LowerNode node = *reference->Node(ino);
      if (!S_ISREG(node.mode) || node.size == 0) continue;
      std::string& content = contents[ino];
      content.resize(static_cast<size_t>(node.size));
      const auto file = reference->Open(ino);
      ASSERT_TRUE(file.ok()) << file.status();
      const absl::Status status = (*file)->ReadAt(
          0, absl::MakeSpan(reinterpret_cast<uint8_t*>(content.data()), content.size()), nullptr);
      ASSERT_TRUE(status.ok()) << status;
    }
    std::atomic<int> failures{0};
    std::vector<std::thread> threads;
    for (uint32_t seed = 1; seed <= 8; ++seed) {
      threads.emplace_back([&, seed] { ReadRandomly(*image, contents, seed, 3000, failures); });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(failures, 0);
    EXPECT_GT(caches->Figures().page_index_evictions, 0u);
    EXPECT_LE(caches->Figures().decoded_page_bytes, options.decoded_page_bytes);
  }
}

}  // namespace
}  // namespace pbkfs
