// Thousands of small damages, one at a time, to every kind of file of a catalog: each is found when
// the backup is mounted or read, or it changes nothing that is shown. Never other bytes.
//
// A failure prints its seed; PBKFS_DAMAGE_SEED=<seed> replays that case alone, and
// PBKFS_DAMAGE_CASES=<n> runs so many.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "tests/fs/image/image_fixture.h"

namespace pbkfs {
namespace {

constexpr int kDefaultCases = 6000;

// What a tree shows: "<mode> <content>" by path.
using Shown = std::map<std::string, std::string>;

class DamageTest : public ImageTest {
 protected:
  void SetUp() override { spdlog::set_level(spdlog::level::off); }
  void TearDown() override { spdlog::set_level(spdlog::level::info); }

  // A FULL and a DELTA with relations of all fills; returns the id of the DELTA.
  std::string WriteCatalog(const std::string& version, ts::Codec codec) {
    ts::BackupOptions options;
    options.program_version = version;
    options.codec = codec;
    auto full = Begin(ts::BackupMode::kFull, options);
    full->AddRelation(kRelation, 0, 4, Pages(1));
    full->AddRelation("base/5/20001", 0, 3, Pages(2, ts::PageFill::kRandom));
    full->AddRelation("base/5/20002", 0, 3, Pages(3, ts::PageFill::kZero));
    full->AddRelation("base/5/20003", 0, 2, Pages(4, ts::PageFill::kSparse));
    full->AddFile("base/5/20000_vm", std::string(8192, 'v'));
    full->AddFile("plain", "stored in the FULL");
    full->Finish();
    auto delta = Begin(ts::BackupMode::kDelta, options);
    delta->AddRelation(kRelation, 0, 5,
                       std::map<uint32_t, ts::Page>{{1, *Pages(5)(1)}, {4, *Pages(5)(4)}});
    delta->AddUnchangedRelation("base/5/20001", 0, 3);
    delta->AddRelation("base/5/20002", 0, 3, std::map<uint32_t, ts::Page>{{2, *Pages(5)(2)}});
    delta->AddUnchangedRelation("base/5/20003", 0, 2);
    delta->AddFile("base/5/20000_vm", std::string(8192, 'w'));
    delta->AddUnchangedFile("plain", 18, full->Find("plain")->crc);
    return delta->Finish();
  }

  // Everything that the backup shows, or the first error.
  absl::StatusOr<Shown> Show(const std::string& id) {
    const auto catalog = Catalog::Open(store_);
    if (!catalog.ok()) return catalog.status();
    const auto instance = (*catalog)->OpenInstance("main");
    if (!instance.ok()) return instance.status();
    const auto chain = ResolveChain(*instance, id, false);
    if (!chain.ok()) return chain.status();
    const auto image = Image::Create(*chain, ImageCaches::Create({}));
    if (!image.ok()) return image.status();
    Shown shown;
    for (LowerIno ino = 1; ino <= (*image)->NodeCount(); ++ino) {
      std::string path;
      for (LowerNode node = *(*image)->Node(ino); node.ino != kRootIno;
           node = *(*image)->Node(node.parent)) {
        path = absl::StrCat("/", node.name, path);
      }
      const LowerNode node = *(*image)->Node(ino);
      std::string& content = shown[path];
      content = absl::StrCat(node.mode, " ");
      if (!S_ISREG(node.mode)) continue;
      absl::StatusOr<std::string> bytes =
          path.empty() ? std::string() : Read(**image, absl::string_view(path).substr(1));
      if (!bytes.ok()) return bytes.status();
      // The compiler's padding behind the CRC of pg_control means nothing and is not protected.
      if (path == "/global/pg_control") bytes->replace(292, 4, 4, '\0');
      content += *bytes;
    }
    return shown;
  }

  std::vector<std::string> FilesOf(const std::string& directory) {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
      if (entry.is_regular_file() && entry.file_size() > 0) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  void RunCases(const std::string& id, uint32_t first_seed, int cases, int& found, int& harmless);
};

// In place: file systems write out a file at once that was truncated and written anew.
void Overwrite(const std::string& path, const std::string& bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(pwrite(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  EXPECT_EQ(ftruncate(fd, static_cast<off_t>(bytes.size())), 0);
  close(fd);
}

// One damage; says what was done.
std::string DamageText(std::string& bytes, std::mt19937& random) {
  const size_t at = random() % bytes.size();
  switch (random() % 8) {
    case 0:
      bytes.resize(at);
      return absl::StrCat("cut to ", at);
    case 1:
      bytes += std::string(1 + random() % 20, static_cast<char>(random()));
      return "bytes added";
    case 2: {
      const size_t count = std::min<size_t>(bytes.size() - at, 1 + random() % 512);
      bytes.replace(at, count, count, '\0');
      return absl::StrCat("zeros at ", at);
    }
    default:
      bytes[at] ^= static_cast<char>(1u << random() % 8);
      return absl::StrCat("bit flipped at ", at);
  }
}

void DamageTest::RunCases(const std::string& id, uint32_t first_seed, int cases, int& found,
                          int& harmless) {
  const absl::StatusOr<Shown> good = Show(id);
  ASSERT_TRUE(good.ok()) << good.status();
  const std::vector<std::string> files = FilesOf(store_);
  for (uint32_t seed = first_seed; seed < first_seed + static_cast<uint32_t>(cases); ++seed) {
    std::mt19937 random(seed);
    const std::string& file = files[random() % files.size()];
    const std::string before = ts::ReadWholeFile(file);
    std::string after = before;
    const std::string what = DamageText(after, random);
    Overwrite(file, after);
    const absl::StatusOr<Shown> shown = Show(id);
    Overwrite(file, before);
    if (!shown.ok()) {
      ++found;
      continue;
    }
    ++harmless;
    ASSERT_TRUE(*shown == *good) << "other bytes were shown; seed " << seed << ": " << file << ", "
                                 << what;
  }
}

TEST_F(DamageTest, EveryDamageIsFoundOrChangesNothing) {
  const char* const seed_text = getenv("PBKFS_DAMAGE_SEED");
  const char* const cases_text = getenv("PBKFS_DAMAGE_CASES");
  const int all = cases_text != nullptr ? atoi(cases_text) : kDefaultCases;
  const std::pair<const char*, ts::Codec> catalogs[] = {
      {"2.5.16", ts::Codec::kZlib}, {"2.5.16", ts::Codec::kNone}, {"2.5.16", ts::Codec::kPglz},
      {"2.5.16", ts::Codec::kLz4},  {"2.5.16", ts::Codec::kZstd}, {"2.3.5", ts::Codec::kZlib}};
  const int cases = seed_text != nullptr ? 1 : all / static_cast<int>(std::size(catalogs));
  uint32_t first_seed = seed_text != nullptr ? static_cast<uint32_t>(atoi(seed_text)) : 1;
  int found = 0;
  int harmless = 0;
  for (const auto& [version, codec] : catalogs) {
    SCOPED_TRACE(absl::StrCat(version, " ", std::string(ts::CodecName(codec))));
    for (const auto& backup : std::filesystem::directory_iterator(store_ + "/backups/main")) {
      if (backup.is_directory()) std::filesystem::remove_all(backup.path());
    }
    RunCases(WriteCatalog(version, codec), first_seed, cases, found, harmless);
    if (HasFatalFailure()) return;
    if (seed_text == nullptr) first_seed += static_cast<uint32_t>(cases);
  }
  printf("%d damages found, %d harmless\n", found, harmless);
  if (seed_text != nullptr) return;
  EXPECT_GT(found, 0);
  EXPECT_GT(harmless, 0);
}

}  // namespace
}  // namespace pbkfs
