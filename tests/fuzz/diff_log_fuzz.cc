// The log of a diff: any bytes give a state or an error, and any state can be checked. The first
// byte says whether the seals of the records are made right, so that their contents are reached
// too.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fs/base/bytes.h"
#include "fs/base/crc32c.h"
#include "fs/diff/check_state.h"
#include "fs/diff/log_reader.h"
#include "fs/diff/presumed_tree.h"
#include "fs/diff/replay.h"

namespace {

constexpr uint64_t kSeed = 99;
// Files of the image that are not known are this long, so that one input can't take seconds.
constexpr int64_t kFileBytes = int64_t{1} << 30;

// Seals the records in `bytes`, as long as their lengths lead from one to the next, in one epoch.
void Seal(std::vector<uint8_t>* bytes) {
  size_t at = 0;
  while (at + pbkfs::kLogRecordHeaderBytes <= bytes->size()) {
    uint8_t* record = bytes->data() + at;
    const auto length = pbkfs::LoadLittleEndian<uint32_t>(record);
    if (length < pbkfs::kLogRecordHeaderBytes || length > bytes->size() - at) return;
    char seed[8];
    pbkfs::StoreLittleEndian(kSeed, seed);
    uint32_t crc = pbkfs::Crc32c(seed, sizeof(seed));
    crc = pbkfs::Crc32c(crc, reinterpret_cast<const char*>(record), 4);
    crc = pbkfs::Crc32c(crc, reinterpret_cast<const char*>(record) + 8, length - 8);
    pbkfs::StoreLittleEndian(crc, reinterpret_cast<char*>(record) + 4);
    at += (length + 7) / 8 * 8;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::vector<uint8_t> bytes(data + 1, data + size);
  if (data[0] % 2 == 0) {
    Seal(&bytes);
    const std::string header = pbkfs::EncodeLogHeader({kSeed, 1});
    bytes.insert(bytes.begin(), header.begin(), header.end());
  }
  const auto log = pbkfs::ParseLog(bytes);
  if (!log.ok()) return 0;
  pbkfs::CheckCheckpoint(*log).IgnoreError();
  pbkfs::CheckTail(*log, static_cast<int64_t>(bytes.size()), true).IgnoreError();
  const pbkfs::PresumedTree lower(log->records, kFileBytes);
  const pbkfs::LogProof proof = pbkfs::CollectProof(log->records);
  for (const auto shutdown : {pbkfs::ShutdownKind::kClean, pbkfs::ShutdownKind::kCacheLost}) {
    pbkfs::Replayer replayer({lower, 0, 0}, proof, shutdown);
    // Also where the replay stopped: a state that is half made must not break the check.
    replayer.Run(log->records).IgnoreError();
    pbkfs::DiffFindings findings;
    pbkfs::CheckState(replayer.state(), lower, false, &findings);
  }
  return 0;
}
