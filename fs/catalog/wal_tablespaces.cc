#include "fs/catalog/wal_tablespaces.h"

#include <utility>

#include "fs/base/status.h"
#include "fs/catalog/recovery_scan.h"

namespace pbkfs {
namespace {

// Damage ends the scan as it ends replay: the bytes before it count all the same.
class DamageEndsIt final : public WalSource {
 public:
  explicit DamageEndsIt(WalSource& source) : source_(source) {}
  absl::Status ReadSegment(uint32_t timeline, uint64_t number, uint32_t offset,
                           absl::Span<uint8_t> out) override {
    absl::Status status = source_.ReadSegment(timeline, number, offset, out);
    return absl::IsDataLoss(status) ? absl::DataLossError(status.message()) : status;
  }

 private:
  WalSource& source_;
};

}  // namespace

absl::StatusOr<TablespaceScan> ScanForTablespaces(WalSource& source, const WalStart& start,
                                                  Lsn stop) {
  RecoveryTarget target;
  target.kind = RecoveryTarget::Kind::kLatest;
  DamageEndsIt lenient(source);
  PBKFS_ASSIGN_OR_RETURN(RecoveryScan found, ScanForRecovery(lenient, start, stop, target));
  TablespaceScan scan;
  scan.creations = std::move(found.creations);
  scan.end = found.end;
  if (!found.reached) scan.problem = found.problem;
  return scan;
}

}  // namespace pbkfs
