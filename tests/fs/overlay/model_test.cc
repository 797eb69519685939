// Random operations against the overlay and against a model in memory, compared after every step;
// remounts in between. PBKFS_MODEL_SEEDS=N runs N seeds, PBKFS_MODEL_SEED=S only the seed S: a
// failure prints the latter.
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs {
namespace {

using testsupport::MemoryTree;
using testsupport::OverlayFixture;
using testsupport::Page;
using testsupport::Setting;

constexpr int64_t kB = kBlockSize;

// Files by path share their content through hard links.
using Content = std::shared_ptr<std::string>;

class Model {
 public:
  std::map<std::string, Content> files;

  void Write(const std::string& path, size_t offset, const std::string& bytes) {
    std::string& content = *files.at(path);
    if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size(), '\0');
    content.replace(offset, bytes.size(), bytes);
  }
  void Zero(const std::string& path, size_t offset, size_t length) {
    std::string& content = *files.at(path);
    for (size_t i = offset; i < std::min(content.size(), offset + length); ++i) content[i] = '\0';
  }
};

class RandomRun {
 public:
  explicit RandomRun(uint64_t seed) : random_(seed), fs_(Lower()) {
    for (const auto& [path, entry] : Lower()) {
      model_.files[path] = std::make_shared<std::string>(entry.content);
    }
  }

  void Run(int steps) {
    for (int step = 0; step < steps; ++step) {
      Step();
      if (testing::Test::HasFatalFailure()) FAIL() << "at step " << step;
      if (random_() % 40 == 0) fs_.Remount();
      CompareOne();
      if (testing::Test::HasFailure()) FAIL() << "at step " << step << ": " << last_;
    }
    fs_.Remount();
    CompareAll();
  }

 private:
  static std::map<std::string, MemoryTree::Entry> Lower() {
    std::map<std::string, MemoryTree::Entry> lower;
    int seed = 0;
    for (const char* directory : {"a", "b", "c"}) {
      for (int i = 0; i < 4; ++i) {
        const int64_t sizes[] = {0, 5000, 2 * kB, 3 * kB + 100};
        lower[std::string(directory) + "/" + std::string(1, static_cast<char>('p' + i))] = {
            S_IFREG | 0600, Page(++seed, static_cast<size_t>(sizes[i]))};
      }
    }
    return lower;
  }

  std::string RandomPath() {
    const std::string directory(1, "abc"[random_() % 3]);
    return directory + "/" + std::string(1, "pqrstuvw"[random_() % 8]);
  }
  // Sizes and offsets around the edges of blocks.
  int64_t RandomOffset() {
    const int64_t block = static_cast<int64_t>(random_() % 5) * kB;
    switch (random_() % 4) {
      case 0:
        return block;
      case 1:
        return std::max<int64_t>(0, block - 1);
      case 2:
        return block + 1;
      default:
        return block + static_cast<int64_t>(random_() % kB);
    }
  }
  size_t RandomLength() {
    switch (random_() % 3) {
      case 0:
        return kB;
      case 1:
        return 1 + random_() % 200;
      default:
        return 1 + random_() % (3 * kB);
    }
  }

  void Step() {
    const std::string path = RandomPath();
    const bool exists = model_.files.contains(path);
    ASSERT_EQ(fs_.Ino(path) != 0, exists) << path;
    if (!exists) {
      last_ = "create " + path;
      ASSERT_TRUE(fs_.Create(path).ok()) << last_;
      model_.files[path] = std::make_shared<std::string>();
      return;
    }
    switch (random_() % 10) {
      case 0:
      case 1:
      case 2:
        return StepWrite(path);
      case 3:
        return StepTruncate(path);
      case 4:
        return StepRename(path);
      case 5:
        last_ = "unlink " + path;
        ASSERT_TRUE(fs_.Unlink(path).ok()) << last_;
        model_.files.erase(path);
        return;
      case 6:
        return StepLink(path);
      case 7:
        return StepAllocate(path);
      case 8:
        return StepWrite(path);
      default:
        if (random_() % 4 != 0) return StepTruncate(path);
        last_ = "fsync " + path;
        ASSERT_TRUE(fs_.overlay().Fsync(fs_.Ino(path)).ok()) << last_;
    }
  }

  void StepWrite(const std::string& path) {
    const int64_t offset = RandomOffset();
    const std::string bytes = Page(static_cast<int>(random_() % 1000), RandomLength());
    last_ =
        "write " + path + " at " + std::to_string(offset) + " of " + std::to_string(bytes.size());
    ASSERT_TRUE(fs_.Write(path, offset, bytes).ok()) << last_;
    model_.Write(path, static_cast<size_t>(offset), bytes);
  }
  void StepTruncate(const std::string& path) {
    const int64_t size = random_() % 4 == 0 ? 0 : RandomOffset();
    last_ = "truncate " + path + " to " + std::to_string(size);
    ASSERT_TRUE(fs_.Truncate(path, size).ok()) << last_;
    model_.files[path]->resize(static_cast<size_t>(size), '\0');
  }
  void StepRename(const std::string& path) {
    const std::string target = RandomPath();
    last_ = "rename " + path + " to " + target;
    ASSERT_TRUE(fs_.Rename(path, target).ok()) << last_;
    const Content content = model_.files[path];
    const auto replaced = model_.files.find(target);
    if (replaced != model_.files.end() && replaced->second == content) return;
    model_.files.erase(path);
    model_.files[target] = content;
  }
  void StepLink(const std::string& path) {
    const std::string target = RandomPath();
    last_ = "link " + path + " to " + target;
    const absl::Status linked = fs_.Link(path, target);
    if (model_.files.contains(target)) {
      ASSERT_EQ(ErrnoOf(linked), EEXIST) << last_;
      return;
    }
    ASSERT_TRUE(linked.ok()) << last_;
    model_.files[target] = model_.files[path];
  }
  void StepAllocate(const std::string& path) {
    const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    const int mode = modes[random_() % 5];
    const int64_t offset = RandomOffset();
    const auto length = static_cast<int64_t>(RandomLength());
    last_ = "fallocate " + path + " mode " + std::to_string(mode) + " at " +
            std::to_string(offset) + " of " + std::to_string(length);
    const absl::Status status = fs_.overlay().Allocate(fs_.Ino(path), mode, offset, length);
    ASSERT_TRUE(status.ok()) << last_ << ": " << status;
    std::string& content = *model_.files[path];
    const auto end = static_cast<size_t>(offset + length);
    if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) {
      model_.Zero(path, static_cast<size_t>(offset), static_cast<size_t>(length));
    }
    if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && content.size() < end) content.resize(end, '\0');
  }

  void Compare(const std::string& path, const std::string& expected) {
    const auto content = fs_.Read(path);
    ASSERT_TRUE(content.ok()) << path << ": " << content.status();
    ASSERT_EQ(content->size(), expected.size()) << path;
    ASSERT_EQ(fs_.Size(path), static_cast<int64_t>(expected.size())) << path;
    if (*content == expected) return;
    size_t at = 0;
    while ((*content)[at] == expected[at]) ++at;
    FAIL() << path << " differs at byte " << at;
  }
  void CompareOne() {
    if (model_.files.empty()) return;
    auto file = model_.files.begin();
    std::advance(file, static_cast<int64_t>(random_() % model_.files.size()));
    Compare(file->first, *file->second);
  }
  void CompareAll() {
    for (const auto& [path, content] : model_.files) Compare(path, *content);
    std::map<std::string, bool> listed;
    for (const char* directory : {"a", "b", "c"}) {
      ASSERT_TRUE(fs_.overlay()
                      .ReadDirectory(
                          fs_.Ino(directory), kCookieDotDot,
                          [&](const DirectoryEntry& entry) {
                            listed[std::string(directory) + "/" + std::string(entry.name)] = true;
                            return true;
                          })
                      .ok());
    }
    EXPECT_EQ(listed.size(), model_.files.size());
    for (const auto& [path, content] : model_.files) EXPECT_TRUE(listed.contains(path)) << path;
  }

  std::mt19937_64 random_;
  OverlayFixture fs_;
  Model model_;
  std::string last_;
};

TEST(ModelTest, RandomOperationsAgreeWithTheModel) {
  const uint64_t only = Setting("PBKFS_MODEL_SEED", 0);
  const uint64_t first = only != 0 ? only : 1;
  const uint64_t last = only != 0 ? only : Setting("PBKFS_MODEL_SEEDS", 30);
  for (uint64_t seed = first; seed <= last; ++seed) {
    RandomRun(seed).Run(400);
    ASSERT_FALSE(HasFailure()) << "replay: PBKFS_MODEL_SEED=" << seed
                               << " fs_overlay_test --gtest_filter=ModelTest.*";
  }
}

}  // namespace
}  // namespace pbkfs
