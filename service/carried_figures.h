// The counters of the daemon, beyond the life of a worker: their sums lie in memory that the keeper
// holds. They are put there before they are shown, so that no counter is seen to fall; what a
// worker counted after the last time is lost with it.
//
// Layout, version 1 (as the machine has it): magic "PBKFSFIG", u32 version, u32 number of the copy
// that counts, then two copies of 64 KiB: u32 length, a serialized DaemonStats. The other copy is
// written first: a process may die at any instruction.
#ifndef PBKFS_SERVICE_CARRIED_FIGURES_H_
#define PBKFS_SERVICE_CARRIED_FIGURES_H_

#include "fs/base/unique_fd.h"
#include "pbkfs/v1/mount.pb.h"

namespace pbkfs {

// Not synchronized.
class CarriedFigures {
 public:
  // Begins anew in a memory that is empty or of another version. Without one, as where there is no
  // keeper, nothing is carried.
  explicit CarriedFigures(const UniqueFd& memory);
  ~CarriedFigures();
  CarriedFigures(const CarriedFigures&) = delete;
  CarriedFigures& operator=(const CarriedFigures&) = delete;

  // Adds what earlier workers counted to what this one did, and keeps the sums.
  void AddEarlier(v1::DaemonStats* daemon);

 private:
  struct Memory;
  void Keep(const v1::DaemonStats& counters);

  Memory* memory_ = nullptr;  // Null where there is none.
  v1::DaemonStats earlier_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_CARRIED_FIGURES_H_
