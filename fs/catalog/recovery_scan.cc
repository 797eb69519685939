#include "fs/catalog/recovery_scan.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

using Kind = RecoveryTarget::Kind;

// A stop LSN may point behind the header of the page at which the last record ended.
bool Reached(Lsn position, Lsn stop) {
  constexpr Lsn kLongestHeader = 40;
  return position >= stop || (position % kWalPageBytes == 0 && stop - position <= kLongestHeader);
}

bool StopsBefore(const RecoveryTarget& target, const WalRecord& record,
                 const std::optional<TransactionEnd>& transaction) {
  if (target.kind == Kind::kLsn) return !target.inclusive && record.begin >= target.lsn;
  if (!transaction.has_value()) return false;
  if (target.kind == Kind::kXid) return !target.inclusive && transaction->xid == target.xid;
  if (target.kind != Kind::kTime) return false;
  return target.inclusive ? transaction->time > target.time : transaction->time >= target.time;
}

bool StopsAfter(const RecoveryTarget& target, const WalRecord& record,
                const std::optional<TransactionEnd>& transaction) {
  if (target.kind == Kind::kLsn) return target.inclusive && record.begin >= target.lsn;
  if (target.kind == Kind::kName) return DecodeRestorePoint(record) == target.name;
  return target.kind == Kind::kXid && target.inclusive && transaction.has_value() &&
         transaction->xid == target.xid;
}

// Whether a failed read is where the WAL ends, as for a server that recovers.
bool IsEnd(const absl::Status& status) {
  return absl::IsNotFound(status) || (absl::IsDataLoss(status) && ReasonOf(status).empty());
}

void StopAt(Lsn position, Lsn consistent, RecoveryScan* scan) {
  scan->end = position;
  scan->reached = Reached(position, consistent);
  scan->too_early = !scan->reached;
}

}  // namespace

absl::StatusOr<RecoveryScan> ScanForRecovery(WalSource& source, const WalStart& start,
                                             Lsn consistent, const RecoveryTarget& target,
                                             Lsn limit) {
  PBKFS_ASSIGN_OR_RETURN(WalReader reader, WalReader::Create(source, start));
  RecoveryScan scan;
  while (true) {
    const Lsn before = reader.position();
    if (target.kind == Kind::kImmediate && Reached(before, consistent)) {
      StopAt(before, consistent, &scan);
      return scan;
    }
    const absl::StatusOr<WalRecord> record = reader.Next();
    if (!record.ok() && !IsEnd(record.status())) return record.status();
    if (!record.ok() || record->begin >= limit) {
      scan.end = before;
      scan.problem = record.ok() ? absl::OutOfRangeError("the limit of the search is reached")
                                 : record.status();
      scan.reached = target.kind == Kind::kLatest && Reached(before, consistent);
      return scan;
    }
    const std::optional<TransactionEnd> transaction =
        DecodeTransactionEnd(*record, start.server_major);
    if (StopsBefore(target, *record, transaction)) {
      StopAt(before, consistent, &scan);
      return scan;
    }
    if (transaction.has_value()) scan.last_transaction = transaction->time;
    std::optional<TablespaceCreation> creation = DecodeTablespaceCreation(*record);
    if (creation.has_value() && scan.creations.size() < kMaxTablespaceCreations) {
      scan.creations.push_back(*std::move(creation));
    }
    if (StopsAfter(target, *record, transaction)) {
      StopAt(reader.position(), consistent, &scan);
      return scan;
    }
  }
}

}  // namespace pbkfs
