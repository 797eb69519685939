// Random operations against a file system, each one also done in a model in memory and compared
// with it: the overlay by itself (model_test.cc) and a real mount
// (tests/fs/session/mount_model_test.cc).
#ifndef PBKFS_TESTS_FS_OVERLAY_MODEL_H_
#define PBKFS_TESTS_FS_OVERLAY_MODEL_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "fs/diff/limits.h"
#include "tests/support/memory_tree.h"

namespace pbkfs::testsupport {

// A file by its path, or by a slot in which it was opened.
struct ModelFile {
  std::string path;
  int slot = -1;
};

struct ModelFacts {
  uint32_t mode = 0;
  uint32_t nlink = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t size = 0;
  int64_t mtime = 0;
};

// What is tested. Every operation returns 0 or an errno. Used by several threads at once, each with
// slots of its own.
class ModelSubject {
 public:
  virtual ~ModelSubject() = default;
  virtual int Create(const std::string& path) = 0;
  virtual int Mkdir(const std::string& path) = 0;
  virtual int Symlink(const std::string& target, const std::string& path) = 0;
  virtual int Link(const std::string& from, const std::string& to) = 0;
  virtual int Unlink(const std::string& path) = 0;
  virtual int Rmdir(const std::string& path) = 0;
  virtual int Rename(const std::string& from, const std::string& to, bool replace) = 0;
  virtual int Chmod(const std::string& path, uint32_t mode) = 0;
  virtual int Chown(const std::string& path, uint32_t uid, uint32_t gid) = 0;
  virtual int SetMtime(const std::string& path, int64_t nanos) = 0;
  virtual int List(const std::string& path, std::multiset<std::string>* names) = 0;
  virtual int ReadLink(const std::string& path, std::string* target) = 0;
  virtual int Open(const std::string& path, int slot) = 0;
  virtual void Close(int slot) = 0;
  virtual int Stat(const ModelFile& file, ModelFacts* facts) = 0;
  virtual int Read(const ModelFile& file, std::string* bytes) = 0;
  virtual int Write(const ModelFile& file, int64_t offset, const std::string& bytes) = 0;
  virtual int Truncate(const ModelFile& file, int64_t size) = 0;
  virtual int Allocate(const ModelFile& file, int mode, int64_t offset, int64_t length) = 0;
  virtual int Fsync(const ModelFile& file) = 0;
};

// One thread's random operations below a directory of its own.
class ModelRun {
 public:
  static constexpr int kSlots = 3;

  // `index` names the directory, "t<index>", and the slots.
  ModelRun(uint64_t seed, int index, ModelSubject& subject);

  void Steps(int count);
  void CloseAll();
  void CompareAll();

 private:
  struct Node {
    uint32_t mode = 0;
    uint32_t uid = 0;
    uint32_t gid = 0;
    uint32_t nlink = 1;
    int64_t mtime = 0;  // 0 = not known.
    std::string content;
    std::string symlink;
  };
  using NodePtr = std::shared_ptr<Node>;

  int Random(int below) { return static_cast<int>(random_() % static_cast<uint64_t>(below)); }
  std::string RandomPath();
  int64_t RandomOffset();
  int64_t RandomLength();
  NodePtr Find(const std::string& path) const;
  bool IsEmpty(const std::string& path) const;
  std::string Note(const std::string& text);
  void Expect(int result, int expected);

  void Step();
  void StepName(const std::string& path, const NodePtr& node);
  void StepRename(const std::string& path, const NodePtr& node);
  void StepAttributes(const std::string& path, const NodePtr& node);
  void StepFile(const ModelFile& file, const NodePtr& node);
  void StepOpen(const std::string& path, const NodePtr& node);
  void Remove(const std::string& path);
  void Compare(const ModelFile& file, const Node& node);
  void ComparePath(const std::string& path);
  void CompareListing(const std::string& directory);

  std::mt19937_64 random_;
  ModelSubject& subject_;
  const std::string root_;
  const int first_slot_;
  std::map<std::string, NodePtr> nodes_;  // By path; the run's directory among them.
  NodePtr open_[kSlots];
  std::string last_;
};

// The files that a run with `index` finds at first.
std::map<std::string, MemoryTree::Entry> ModelLower(int runs);

// A file of the image, all zeros, that the threads of a run write and read at once, piece by piece:
// blocks or parts of them. A write says everywhere who did it and when: whatever is read must be of
// a write that has begun, and of none that the reader can know to be replaced.
class SharedBlocks {
 public:
  static constexpr int64_t kBytes = 3 * kBlockSize;

  SharedBlocks(std::string path, int64_t piece_bytes)
      : path_(std::move(path)),
        piece_bytes_(static_cast<size_t>(piece_bytes)),
        pieces_(static_cast<size_t>(kBytes) / piece_bytes_) {}
  void Steps(ModelSubject& subject, int writer, uint64_t seed, int count);

 private:
  static constexpr size_t kMaxPieces = 6;
  static constexpr size_t kMaxWriters = 3;
  using Numbers = std::array<uint32_t, kMaxWriters>;  // By writer.
  using Counters = std::array<std::array<std::atomic<uint32_t>, kMaxWriters>, kMaxPieces>;
  struct Stamp;
  struct Knowledge;

  static Numbers Load(const Counters& counters, size_t piece);
  void Write(ModelSubject& subject, size_t writer, size_t piece, Knowledge* known);
  void Read(ModelSubject& subject, size_t piece, Knowledge* known);

  const std::string path_;
  const size_t piece_bytes_;
  const size_t pieces_;
  Counters begun_{};
  Counters finished_{};
};

// Runs one seed: `runs` threads, rounds of steps, and between them `between(round)`, which may
// mount the subject anew; everything is compared then.
void RunModel(uint64_t seed, int runs, int rounds, int steps, ModelSubject& subject,
              const std::function<void(uint64_t random)>& between);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_FS_OVERLAY_MODEL_H_
