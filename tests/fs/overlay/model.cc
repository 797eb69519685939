#include "tests/fs/overlay/model.h"

#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/fs/overlay/overlay_fixture.h"

namespace pbkfs::testsupport {
namespace {

constexpr int64_t kB = kBlockSize;
constexpr int kMaxRounds = 8;

bool IsWithin(const std::string& path, const std::string& directory) {
  return path.rfind(directory + "/", 0) == 0;
}
// The file that all threads of a round share.
std::string SharedPath(int round) { return absl::StrCat("shared", round); }
std::string ParentOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

}  // namespace

std::map<std::string, MemoryTree::Entry> ModelLower(int runs) {
  std::map<std::string, MemoryTree::Entry> lower;
  constexpr int64_t kSizes[] = {0, 5000, 2 * kB, 3 * kB + 100};
  for (int round = 0; round < kMaxRounds; ++round) {
    lower[SharedPath(round)] = {S_IFREG | 0600, std::string(SharedBlocks::kBytes, '\0')};
  }
  for (int run = 0; run < runs; ++run) {
    for (const char* directory : {"p", "q", "r"}) {
      for (int i = 0; i < 4; ++i) {
        lower[absl::StrCat("t", run, "/", directory, "/", std::string(1, "stuv"[i]))] = {
            S_IFREG | 0600, Page(run * 100 + i, static_cast<size_t>(kSizes[i]))};
      }
    }
    lower[absl::StrCat("t", run, "/s")] = {S_IFLNK | 0777, "p/s"};
  }
  return lower;
}

ModelRun::ModelRun(uint64_t seed, int index, ModelSubject& subject)
    : random_(seed * 31 + static_cast<uint64_t>(index)),
      subject_(subject),
      root_(absl::StrCat("t", index)),
      first_slot_(index * kSlots) {
  const auto add = [this](const std::string& path, uint32_t mode, const std::string& content) {
    auto node = std::make_shared<Node>();
    node->mode = mode;
    (S_ISLNK(mode) ? node->symlink : node->content) = content;
    nodes_[path] = std::move(node);
  };
  add(root_, S_IFDIR | 0700, "");
  for (const auto& [path, entry] : ModelLower(index + 1)) {
    if (!IsWithin(path, root_)) continue;
    if (ParentOf(path) != root_) add(ParentOf(path), S_IFDIR | 0700, "");
    add(path, entry.mode, entry.content);
  }
}

// ---- choices ----

std::string ModelRun::RandomPath() {
  std::vector<std::string> directories;
  for (const auto& [path, node] : nodes_) {
    if (S_ISDIR(node->mode)) directories.push_back(path);
  }
  return absl::StrCat(directories[random_() % directories.size()], "/",
                      std::string(1, "pqrstuvw"[Random(8)]));
}

// Around the edges of blocks.
int64_t ModelRun::RandomOffset() {
  const int64_t block = Random(5) * kB;
  switch (Random(4)) {
    case 0:
      return block;
    case 1:
      return std::max<int64_t>(0, block - 1);
    case 2:
      return block + 1;
    default:
      return block + Random(kB);
  }
}

int64_t ModelRun::RandomLength() {
  switch (Random(3)) {
    case 0:
      return kB;
    case 1:
      return 1 + Random(200);
    default:
      return 1 + Random(3 * kB);
  }
}

ModelRun::NodePtr ModelRun::Find(const std::string& path) const {
  const auto found = nodes_.find(path);
  return found == nodes_.end() ? nullptr : found->second;
}

bool ModelRun::IsEmpty(const std::string& path) const {
  const auto next = nodes_.lower_bound(path + "/");
  return next == nodes_.end() || !IsWithin(next->first, path);
}

std::string ModelRun::Note(const std::string& text) { return last_ = text; }

void ModelRun::Expect(int result, int expected) {
  EXPECT_EQ(result, expected) << last_ << ": " << strerror(result);
}

// ---- operations ----

void ModelRun::Steps(int count) {
  for (int i = 0; i < count && !testing::Test::HasFailure(); ++i) {
    Step();
    auto any = nodes_.begin();
    std::advance(any, Random(static_cast<int>(nodes_.size())));
    ComparePath(any->first);
    if (testing::Test::HasFailure()) ADD_FAILURE() << root_ << ": at step " << i << ": " << last_;
  }
}

void ModelRun::Step() {
  const int slot = Random(kSlots);
  if (open_[slot] != nullptr && Random(5) == 0) {
    if (Random(4) != 0) return StepFile({"", first_slot_ + slot}, open_[slot]);
    subject_.Close(first_slot_ + slot);
    open_[slot] = nullptr;
    return;
  }
  const std::string path = RandomPath();
  const NodePtr node = Find(path);
  if (node != nullptr && S_ISREG(node->mode) && Random(3) != 0) return StepFile({path, -1}, node);
  StepName(path, node);
  if (!testing::Test::HasFailure()) CompareListing(ParentOf(path));
}

void ModelRun::StepName(const std::string& path, const NodePtr& node) {
  const auto add = [&](uint32_t mode) {
    if (node != nullptr) return EEXIST;
    nodes_[path] = std::make_shared<Node>();
    nodes_[path]->mode = mode;
    return 0;
  };
  switch (Random(node == nullptr ? 6 : 10)) {
    case 0:
    case 1:
      Note("create " + path);
      return Expect(subject_.Create(path), add(S_IFREG | 0600));
    case 2:
      Note("mkdir " + path);
      return Expect(subject_.Mkdir(path), add(S_IFDIR | 0700));
    case 3:
      Note("symlink " + path);
      Expect(subject_.Symlink("to " + path, path), add(S_IFLNK | 0777));
      if (node == nullptr) nodes_[path]->symlink = "to " + path;
      return;
    case 4: {
      Note("unlink " + path);
      const int expected = node == nullptr ? ENOENT : S_ISDIR(node->mode) ? EISDIR : 0;
      Expect(subject_.Unlink(path), expected);
      if (expected == 0) Remove(path);
      return;
    }
    case 5: {
      Note("rmdir " + path);
      const int expected = node == nullptr        ? ENOENT
                           : !S_ISDIR(node->mode) ? ENOTDIR
                           : !IsEmpty(path)       ? ENOTEMPTY
                                                  : 0;
      Expect(subject_.Rmdir(path), expected);
      if (expected == 0) Remove(path);
      return;
    }
    case 6: {
      const std::string target = RandomPath();
      Note("link " + path + " to " + target);
      if (S_ISDIR(node->mode) && Find(target) != nullptr) return;  // Either error is right.
      const int expected = S_ISDIR(node->mode) ? EPERM : Find(target) != nullptr ? EEXIST : 0;
      Expect(subject_.Link(path, target), expected);
      if (expected != 0) return;
      nodes_[target] = node;
      ++node->nlink;
      return;
    }
    case 7:
      return StepAttributes(path, node);
    case 8:
      return StepOpen(path, node);
    default:
      return StepRename(path, node);
  }
}

void ModelRun::Remove(const std::string& path) {
  const NodePtr node = nodes_.at(path);
  --node->nlink;
  nodes_.erase(path);
}

void ModelRun::StepRename(const std::string& path, const NodePtr& node) {
  const std::string target = RandomPath();
  const bool replace = Random(4) != 0;
  Note("rename " + path + " to " + target + (replace ? "" : ", no replacing"));
  // The kernel has its own answers where one path lies within the other.
  if (IsWithin(target, path) || IsWithin(path, target)) return;
  const NodePtr replaced = Find(target);
  int expected = 0;
  if (replaced != nullptr && replaced != node) {
    if (S_ISDIR(node->mode) && !S_ISDIR(replaced->mode)) expected = ENOTDIR;
    if (!S_ISDIR(node->mode) && S_ISDIR(replaced->mode)) expected = EISDIR;
    if (expected == 0 && S_ISDIR(replaced->mode) && !IsEmpty(target)) expected = ENOTEMPTY;
  }
  if (replaced != nullptr && !replace) expected = EEXIST;
  Expect(subject_.Rename(path, target, replace), expected);
  if (expected != 0 || replaced == node) return;
  if (replaced != nullptr) Remove(target);
  std::map<std::string, NodePtr> moved;
  for (const auto& [old, entry] : nodes_) {
    const bool moves = old == path || IsWithin(old, path);
    moved[moves ? target + old.substr(path.size()) : old] = entry;
  }
  nodes_ = std::move(moved);
  CompareListing(ParentOf(target));
}

void ModelRun::StepAttributes(const std::string& path, const NodePtr& node) {
  if (S_ISLNK(node->mode)) return;
  Note("attributes of " + path);
  switch (Random(3)) {
    case 0: {
      const auto mode = (S_ISDIR(node->mode) ? 0700 : 0600) + static_cast<uint32_t>(Random(8)) * 8;
      Expect(subject_.Chmod(path, mode), 0);
      node->mode = (node->mode & S_IFMT) | mode;
      return;
    }
    case 1:
      node->uid = static_cast<uint32_t>(Random(5));
      node->gid = static_cast<uint32_t>(Random(5));
      return Expect(subject_.Chown(path, node->uid, node->gid), 0);
    default:
      if (!S_ISREG(node->mode)) return;
      node->mtime = 1600000000000000000 + Random(1000000000);
      return Expect(subject_.SetMtime(path, node->mtime), 0);
  }
}

void ModelRun::StepOpen(const std::string& path, const NodePtr& node) {
  const int slot = Random(kSlots);
  if (!S_ISREG(node->mode) || open_[slot] != nullptr) return;
  Note("open " + path);
  Expect(subject_.Open(path, first_slot_ + slot), 0);
  open_[slot] = node;
}

void ModelRun::StepFile(const ModelFile& file, const NodePtr& node) {
  const std::string what = file.slot < 0 ? file.path : absl::StrCat("slot ", file.slot);
  const int64_t offset = RandomOffset();
  std::string& content = node->content;
  const int kind = Random(10);
  if (kind < 5) {
    const std::string bytes = Page(Random(1000), static_cast<size_t>(RandomLength()));
    Note(absl::StrCat("write ", what, " at ", offset, " of ", bytes.size()));
    Expect(subject_.Write(file, offset, bytes), 0);
    content.resize(std::max(content.size(), static_cast<size_t>(offset) + bytes.size()), '\0');
    content.replace(static_cast<size_t>(offset), bytes.size(), bytes);
  } else if (kind < 7) {
    const int64_t size = Random(4) == 0 ? 0 : offset;
    Note(absl::StrCat("truncate ", what, " to ", size));
    Expect(subject_.Truncate(file, size), 0);
    content.resize(static_cast<size_t>(size), '\0');
  } else if (kind < 9) {
    constexpr int kModes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    const int mode = kModes[Random(5)];
    const int64_t length = RandomLength();
    Note(absl::StrCat("fallocate ", what, " mode ", mode, " at ", offset, " of ", length));
    Expect(subject_.Allocate(file, mode, offset, length), 0);
    const auto end = static_cast<size_t>(offset + length);
    if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) {
      for (auto i = static_cast<size_t>(offset); i < std::min(content.size(), end); ++i) {
        content[i] = '\0';
      }
    }
    if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && content.size() < end) content.resize(end, '\0');
  } else {
    Note("fsync " + what);
    return Expect(subject_.Fsync(file), 0);
  }
  node->mtime = 0;
  Compare(file, *node);
}

void ModelRun::CloseAll() {
  for (int slot = 0; slot < kSlots; ++slot) {
    if (open_[slot] != nullptr) subject_.Close(first_slot_ + slot);
    open_[slot] = nullptr;
  }
}

// ---- comparison ----

void ModelRun::Compare(const ModelFile& file, const Node& node) {
  const std::string what = file.slot < 0 ? file.path : absl::StrCat("slot ", file.slot);
  ModelFacts facts;
  Expect(subject_.Stat(file, &facts), 0);
  EXPECT_EQ(facts.mode, node.mode) << what;
  EXPECT_EQ(facts.uid, node.uid) << what;
  EXPECT_EQ(facts.gid, node.gid) << what;
  EXPECT_TRUE(S_ISDIR(node.mode) || facts.nlink == node.nlink) << what << ": " << facts.nlink;
  EXPECT_TRUE(node.mtime == 0 || facts.mtime == node.mtime) << what << ": " << facts.mtime;
  if (!S_ISREG(node.mode)) return;
  EXPECT_EQ(facts.size, static_cast<int64_t>(node.content.size())) << what;
  std::string bytes;
  Expect(subject_.Read(file, &bytes), 0);
  ASSERT_EQ(bytes.size(), node.content.size()) << what;
  if (bytes == node.content) return;
  const auto at = std::mismatch(bytes.begin(), bytes.end(), node.content.begin()).first;
  ADD_FAILURE() << what << " differs at byte " << at - bytes.begin();
}

void ModelRun::ComparePath(const std::string& path) {
  const NodePtr node = Find(path);
  Compare({path, -1}, *node);
  if (S_ISDIR(node->mode)) return CompareListing(path);
  if (!S_ISLNK(node->mode)) return;
  std::string target;
  Expect(subject_.ReadLink(path, &target), 0);
  EXPECT_EQ(target, node->symlink) << path;
}

void ModelRun::CompareListing(const std::string& directory) {
  std::multiset<std::string> names;
  Expect(subject_.List(directory, &names), 0);
  std::multiset<std::string> expected;
  for (const auto& [path, node] : nodes_) {
    if (path != root_ && ParentOf(path) == directory) {
      expected.insert(path.substr(directory.size() + 1));
    }
  }
  EXPECT_EQ(names, expected) << directory;
}

void ModelRun::CompareAll() {
  Note("comparing everything");
  for (const auto& [path, node] : nodes_) ComparePath(path);
  for (int slot = 0; slot < kSlots; ++slot) {
    if (open_[slot] != nullptr) Compare({"", first_slot_ + slot}, *open_[slot]);
  }
}

// ---- a file of all ----

// What a write puts at each place of its piece. Zeros are what the image has.
struct SharedBlocks::Stamp {
  uint8_t writer;  // Counts from 1.
  uint8_t piece;
  uint16_t place;
  uint32_t number;  // Of the writer's writes of the piece.
};

// What one of the threads knows of a piece.
struct SharedBlocks::Knowledge {
  Numbers overwritten{};  // By writer: numbers up to this one went with a write of its own.
  // By place and writer: the newest that was seen.
  std::array<Numbers, kBlockSize / sizeof(Stamp)> seen{};
};

SharedBlocks::Numbers SharedBlocks::Load(const Counters& counters, size_t piece) {
  Numbers numbers{};
  for (size_t writer = 0; writer < kMaxWriters; ++writer) {
    numbers[writer] = counters[piece][writer];
  }
  return numbers;
}

void SharedBlocks::Write(ModelSubject& subject, size_t writer, size_t piece, Knowledge* known) {
  known->overwritten = Load(finished_, piece);
  Stamp stamp{static_cast<uint8_t>(writer + 1), static_cast<uint8_t>(piece), 0,
              ++begun_[piece][writer]};
  std::string bytes(piece_bytes_, '\0');
  for (size_t at = 0; at < bytes.size(); at += sizeof(stamp), ++stamp.place) {
    memcpy(bytes.data() + at, &stamp, sizeof(stamp));
  }
  EXPECT_EQ(subject.Write({path_, -1}, static_cast<int64_t>(piece * piece_bytes_), bytes), 0);
  finished_[piece][writer] = stamp.number;
}

// A read and a write that came later may overlap, as on ext4: then what is read is a mixture. But
// each part of it is of a write that has begun, and of none that others had replaced before the
// read.
void SharedBlocks::Read(ModelSubject& subject, size_t piece, Knowledge* known) {
  const Numbers finished = Load(finished_, piece);
  std::string bytes;
  EXPECT_EQ(subject.Read({path_, -1}, &bytes), 0);
  const Numbers begun = Load(begun_, piece);
  ASSERT_EQ(bytes.size(), pieces_ * piece_bytes_);
  for (size_t place = 0; place < piece_bytes_ / sizeof(Stamp); ++place) {
    Stamp stamp;
    memcpy(&stamp, bytes.data() + piece * piece_bytes_ + place * sizeof(Stamp), sizeof(stamp));
    Numbers& seen = known->seen[place];
    if (stamp.writer == 0) {
      ASSERT_EQ(stamp.piece + stamp.place + stamp.number, 0u) << "nobody wrote that";
      ASSERT_EQ(finished, Numbers{}) << "what was there at first came back";
      ASSERT_EQ(seen, Numbers{}) << "what was there at first came back";
      continue;
    }
    ASSERT_LE(stamp.writer, kMaxWriters) << "nobody wrote that";
    const size_t writer = stamp.writer - 1u;
    ASSERT_TRUE(stamp.piece == piece && stamp.place == place && stamp.number <= begun[writer])
        << "nobody wrote that";
    ASSERT_GE(stamp.number, std::max(finished[writer], seen[writer]))
        << "an older write of writer " << writer << " came back";
    ASSERT_GT(stamp.number, known->overwritten[writer])
        << "a write of writer " << writer << " came back over a later one";
    seen[writer] = stamp.number;
  }
}

void SharedBlocks::Steps(ModelSubject& subject, int writer, uint64_t seed, int count) {
  std::mt19937_64 random(seed * 17 + static_cast<uint64_t>(writer));
  std::vector<Knowledge> known(pieces_);
  for (int i = 0; i < count && !testing::Test::HasFailure(); ++i) {
    // The first writes of all meet in one block, each in its own piece where pieces are small.
    const size_t piece = i == 0 ? static_cast<size_t>(writer) : random() % pieces_;
    Knowledge& here = known[piece];
    if (i == 0 || random() % 2 == 0) Write(subject, static_cast<size_t>(writer), piece, &here);
    Read(subject, piece, &here);
  }
}

void RunModel(uint64_t seed, int runs, int rounds, int steps, ModelSubject& subject,
              const std::function<void(uint64_t random)>& between) {
  ASSERT_LE(rounds, kMaxRounds);
  std::mt19937_64 random(seed);
  std::vector<std::unique_ptr<ModelRun>> all;
  for (int run = 0; run < runs; ++run) {
    all.push_back(std::make_unique<ModelRun>(seed, run, subject));
  }
  for (int round = 0; round < rounds && !testing::Test::HasFailure(); ++round) {
    if (runs == 1) {
      all[0]->Steps(steps);
    } else {
      // In half of the rounds a first write completes its block from the image.
      SharedBlocks shared(SharedPath(round), kB / (1 + round % 2));
      std::vector<std::thread> threads;
      for (int run = 0; run < runs; ++run) {
        threads.emplace_back([&, run] {
          for (int part = 0; part < 4; ++part) all[static_cast<size_t>(run)]->Steps(steps / 4);
        });
        threads.emplace_back([&, run] {
          shared.Steps(subject, run, seed + static_cast<uint64_t>(round), steps / 4);
        });
      }
      for (std::thread& thread : threads) thread.join();
    }
    if (testing::Test::HasFailure()) return;
    for (auto& run : all) run->CompareAll();
    for (auto& run : all) run->CloseAll();
    between(random());
    for (auto& run : all) run->CompareAll();
  }
}

}  // namespace pbkfs::testsupport
