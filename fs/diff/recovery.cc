#include "fs/diff/recovery.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fs/base/status.h"
#include "fs/diff/log_reader.h"
#include "fs/diff/page_cache_evidence.h"
#include "fs/diff/zero_range.h"

namespace pbkfs {
namespace {

// Writes a file's bytes once more where they are. After a failed sync the kernel shows bytes that
// it takes for written and that are not on the disk: no later sync would write them.
absl::Status WriteAgain(IoFile& file) {
  constexpr int64_t kPiece = 1 << 20;
  std::vector<uint8_t> piece;
  PBKFS_ASSIGN_OR_RETURN(int64_t at, file.Seek(0, SEEK_DATA));
  while (at >= 0) {
    PBKFS_ASSIGN_OR_RETURN(const int64_t end, file.Seek(at, SEEK_HOLE));
    while (at < end) {
      piece.resize(static_cast<size_t>(std::min(kPiece, end - at)));
      PBKFS_ASSIGN_OR_RETURN(const size_t count, file.Read(at, absl::MakeSpan(piece)));
      if (count == 0) return absl::OkStatus();
      PBKFS_RETURN_IF_ERROR(file.Write(at, absl::MakeConstSpan(piece.data(), count)));
      at += static_cast<int64_t>(count);
    }
    PBKFS_ASSIGN_OR_RETURN(at, file.Seek(end, SEEK_DATA));
  }
  return absl::OkStatus();
}

// Brings the data file of one inode into agreement with its state, and the state's size with the
// file.
class DataFileSettler {
 public:
  // `write_again`: writes that failed may be of any file.
  DataFileSettler(const RecoverySource& source, bool write_again)
      : data_(source.data), write_again_(write_again), goes_on_(source.session != 0) {}

  // Whether anything was changed that the log does not say.
  bool settled() const { return settled_; }
  const std::vector<CutRecord>& cuts() const { return cuts_; }

  // `lost` as Replayer::Lost.
  absl::Status Settle(InodeState& state, absl::Span<const DestroyedRange> destroyed, bool lost) {
    FileLayout& layout = state.layout;
    if (!layout.has_data) return absl::OkStatus();
    auto file = data_.OpenFile(DataFileName(state.ino), O_RDWR, 0);
    if (!file.ok() && ErrnoOf(file.status()) == ENOENT) return SettleMissing(state, lost);
    if (!file.ok()) return file.status();
    PBKFS_ASSIGN_OR_RETURN(const struct stat attributes, (*file)->Stat());
    if (attributes.st_size < layout.data_bytes) {
      return CorruptLog(absl::StrCat("data file ", DataFileName(state.ino), " has ",
                                     attributes.st_size, " bytes of ", layout.data_bytes));
    }
    bool changed = false;
    for (const DestroyedRange& range : destroyed) {
      const int64_t end = std::min<int64_t>(range.end, attributes.st_size);
      if (range.begin >= end || (!lost && range.sequence != layout.uncut)) continue;
      PBKFS_RETURN_IF_ERROR(ZeroRange(**file, range.begin, end - range.begin));
      changed = true;
    }
    // Bytes past the logged size were written by extensions, which have no record. They are no such
    // bytes where a shrink was not finished, and, after a loss, where an explicit size is newer
    // than what was synced.
    const bool cut_pending = layout.uncut != 0 && layout.uncut == layout.last_size;
    const bool believed = !cut_pending && (!lost || layout.last_size <= layout.synced_through);
    if (attributes.st_size > layout.size) {
      if (believed) {
        layout.size = attributes.st_size;
        changed = lost || changed;
      } else {
        PBKFS_RETURN_IF_ERROR((*file)->Truncate(layout.size));
        changed = true;
      }
    }
    layout.data_bytes = std::min<int64_t>(attributes.st_size, layout.size);
    state.mtime = std::max(
        state.mtime, attributes.st_mtim.tv_sec * int64_t{1000000000} + attributes.st_mtim.tv_nsec);
    state.ctime = std::max(state.ctime, state.mtime);
    if (!goes_on_ && (layout.failed || write_again_)) PBKFS_RETURN_IF_ERROR(WriteAgain(**file));
    settled_ = settled_ || layout.uncut != 0 || layout.failed;
    if (layout.uncut != 0) cuts_.push_back({state.ino, layout.uncut});
    layout.uncut = 0;
    if (!goes_on_) layout.failed = false;
    settled_ = settled_ || changed;
    if (goes_on_) return absl::OkStatus();
    // After a loss also where nothing had to be done: a recovery that was cut short may have done
    // it, and not synced it.
    return changed || lost ? (*file)->DataSync() : absl::OkStatus();
  }

 private:
  // The record of a data file may survive the file's directory entry, but not once the file was
  // synced.
  absl::Status SettleMissing(InodeState& state, bool lost) {
    FileLayout& layout = state.layout;
    if (!lost || layout.synced_through >= layout.data_file) {
      return CorruptLog(absl::StrCat("data file ", DataFileName(state.ino), " is missing"));
    }
    layout.has_data = false;
    layout.data_bytes = 0;
    layout.uncut = 0;
    layout.failed = false;
    settled_ = true;
    return absl::OkStatus();
  }

  IoDir& data_;
  const bool write_again_;
  const bool goes_on_;
  bool settled_ = false;
  std::vector<CutRecord> cuts_;
};

}  // namespace

void ConfirmSizes(DiffState* state) {
  for (auto& [ino, inode] : state->inodes) {
    FileLayout& layout = inode->layout;
    layout.synced_size = std::max(layout.synced_size, layout.size);
  }
}

std::string DataFileName(uint64_t ino) { return absl::StrFormat("%x", ino); }

absl::StatusOr<Recovered> RecoverLog(const RecoverySource& source, IoFile& log_file) {
  PBKFS_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, ReadLog(log_file));
  PBKFS_ASSIGN_OR_RETURN(const ParsedLog log, ParseLog(bytes));
  PBKFS_RETURN_IF_ERROR(CheckCheckpoint(log));

  Recovered recovered;
  recovered.generation = log.header.generation;
  recovered.evidence = LastEvidence(log);
  const bool clean = EndsClean(log);
  const CacheState cache = clean || source.session != 0
                               ? CacheState::kIntact
                               : CheckEvidence(source.io, source.directory, recovered.evidence);
  const bool intact = cache == CacheState::kIntact;
  recovered.shutdown = clean    ? ShutdownKind::kClean
                       : intact ? ShutdownKind::kProcessDied
                                : ShutdownKind::kCacheLost;
  PBKFS_RETURN_IF_ERROR(CheckTail(log, static_cast<int64_t>(bytes.size()), intact));
  const LogProof proof = CollectProof(log.records);
  Replayer replayer(source.base, proof, recovered.shutdown, source.session);
  PBKFS_RETURN_IF_ERROR(replayer.Run(log.records));
  DataFileSettler settler(source, cache == CacheState::kWriteFailed);
  const auto& inodes = replayer.state().inodes;
  const bool destroys = std::any_of(inodes.begin(), inodes.end(), [](const auto& inode) {
    return inode.second->layout.uncut != 0;
  });
  // Confirmed bytes may be destroyed only once the record that says so is durable. It is where the
  // evidence was checked: that synced the whole file system. What a loss left may be of a page
  // cache that is there, unknown to us.
  if (destroys && !intact) PBKFS_RETURN_IF_ERROR(WriteAgain(log_file));
  if (destroys && (source.session != 0 || !intact)) PBKFS_RETURN_IF_ERROR(log_file.DataSync());
  for (auto& [ino, state] : replayer.state().inodes) {
    PBKFS_RETURN_IF_ERROR(settler.Settle(*state, replayer.Destroyed(ino), replayer.Lost(ino)));
    if (state->nlink == 0) recovered.orphans.push_back(ino);
  }
  // Not before everything else went well: the tail may be the only evidence of what happened.
  if (static_cast<int64_t>(bytes.size()) > log.end) {
    PBKFS_RETURN_IF_ERROR(log_file.Truncate(log.end));
  }
  recovered.needs_checkpoint = recovered.shutdown == ShutdownKind::kCacheLost || settler.settled();
  recovered.cuts = settler.cuts();
  recovered.state = std::move(replayer.state());
  recovered.position.end = log.end;
  recovered.position.seed = log.seed;
  recovered.position.next_sequence = recovered.state.next_sequence;
  recovered.position.durable_to = clean ? log.end : log.durable_to;
  return recovered;
}

}  // namespace pbkfs
