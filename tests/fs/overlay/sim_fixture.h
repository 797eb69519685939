// An overlay whose diff is on a simulated machine that can crash.
#ifndef PBKFS_TESTS_FS_OVERLAY_SIM_FIXTURE_H_
#define PBKFS_TESTS_FS_OVERLAY_SIM_FIXTURE_H_

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "fs/base/status.h"
#include "fs/overlay/overlay.h"
#include "tests/fs/overlay/overlay_fixture.h"
#include "tests/support/memory_tree.h"
#include "tests/support/sim_io.h"

namespace pbkfs::testsupport {

class SimFixture {
 public:
  SimFixture(std::shared_ptr<const MemoryTree> lower, uint64_t seed, bool materialize = false)
      : lower_(std::move(lower)), materialize_(materialize), io_(seed) {}
  ~SimFixture() { overlay_.reset(); }

  SimIo& io() { return io_; }
  const SimIo& io() const { return io_; }
  Overlay& overlay() { return *overlay_; }

  absl::Status Mount(Io* through = nullptr) {
    DiffIdentity identity;
    identity.instance = "main";
    identity.backup_id = "TEST";
    identity.list_hash = lower_->ListHash();
    PBKFS_ASSIGN_OR_RETURN(auto diff,
                           DiffStore::Open(through == nullptr ? io_ : *through, "/diff", identity));
    OverlayOptions options;
    // Tests call Maintain() themselves, so that a seed always means the same.
    options.background_interval = std::chrono::hours(1);
    options.materialize_on_read = materialize_;
    PBKFS_ASSIGN_OR_RETURN(overlay_, Overlay::Create(lower_, std::move(diff), options));
    return absl::OkStatus();
  }
  // The overlay is gone, as after the death of its process.
  void Drop() { overlay_.reset(); }
  // 0 where there is no such path.
  uint64_t Ino(const std::string& path) { return InoAt(*overlay_, path); }

 private:
  const std::shared_ptr<const MemoryTree> lower_;
  const bool materialize_;
  SimIo io_;
  std::unique_ptr<Overlay> overlay_;
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_FS_OVERLAY_SIM_FIXTURE_H_
