// Operations on an overlay whose machine can crash, each one told to the CrashModel first: what it
// shows is possible as soon as it begins, and certain once it was replied.
#ifndef PBKFS_TESTS_FS_OVERLAY_CRASH_DRIVER_H_
#define PBKFS_TESTS_FS_OVERLAY_CRASH_DRIVER_H_

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/fs/overlay/crash_model.h"
#include "tests/fs/overlay/sim_fixture.h"

namespace pbkfs::testsupport {

class CrashDriver {
 public:
  // A file that is open, by a name or without one.
  struct Handle {
    uint64_t ino;
    int object;
  };

  // With `materialize`, what is read is copied into the diff.
  CrashDriver(std::shared_ptr<const MemoryTree> lower, uint64_t seed, bool materialize = false)
      : fs_(std::move(lower), seed * 7919 + 1, materialize) {}

  // Mounts for the first time.
  void Begin();
  SimIo& io() { return fs_.io(); }
  Overlay& overlay() { return fs_.overlay(); }
  const CrashModel& model() const { return model_; }
  bool dead() const { return fs_.io().dead(); }
  // Nothing more can be done before Recover().
  bool over() const { return dead() || closed_; }
  const std::string& log() const { return log_; }

  // Null where there is no such name. Valid until the next change.
  const CrashModel::Name* Find(const std::string& path) const;
  Handle ByName(const std::string& path);
  const std::vector<Handle>& handles() const { return handles_; }

  // Each returns false where it does nothing because POSIX forbids it, or because it failed.
  bool Create(const std::string& path, uint32_t mode, const std::string& symlink = "");
  bool Unlink(const std::string& path);
  bool RemoveDirectory(const std::string& path);
  bool Link(const std::string& path, const std::string& target);
  bool Rename(const std::string& path, const std::string& target);
  bool SetAttributes(const std::string& path, const AttributeChange& change);
  bool FsyncDirectory();
  bool Open(const std::string& path);
  void Close(size_t handle);

  bool Write(const Handle& file, int64_t offset, const std::string& bytes);
  bool Truncate(const Handle& file, int64_t size);
  bool Allocate(const Handle& file, int mode, int64_t offset, int64_t length);
  bool Fsync(const Handle& file);
  // Fails the test where the file is not as the model says.
  void Compare(const Handle& file);

  void Maintain();
  bool Checkpoint();
  void CleanRemount();
  // The next sync of this file fails; until the next mount only what was synced counts.
  void FailNextSync(const Handle& file);

  // One death, of the process or of the machine; the diff is not mounted after it.
  void Die(bool machine);
  absl::Status Mount() { return fs_.Mount(); }
  // After deaths and a mount: what is there must be what was allowed. It is the new beginning.
  void CheckRecovered();

 private:
  void Note(const std::string& text) { log_ += text + "\n"; }
  uint64_t ParentIno(const std::string& path);
  bool Done(const absl::Status& status);
  bool NameChange(CrashModel::Names names, const std::vector<int>& changed,
                  const std::function<absl::Status()>& call);
  bool BytesChange(const Handle& file, std::string content,
                   const std::function<absl::Status()>& call);
  void ForgetIfGone(const Handle& file);

  SimFixture fs_;
  CrashModel model_;
  std::vector<Handle> handles_;
  std::set<int> failing_;
  bool closed_ = false;
  bool cache_lost_ = false;
  std::string log_;
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_FS_OVERLAY_CRASH_DRIVER_H_
