#include "tests/support/synthetic_cluster.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

namespace pbkfs::testsupport {
namespace {

constexpr size_t kControlFileBytes = 8192;
constexpr size_t kControlCrcOffset = 288;
constexpr uint32_t kControlVersion = 1300;
constexpr uint32_t kCatalogVersion = 202209061;  // PostgreSQL 15

// WAL of PostgreSQL 15.
constexpr uint16_t kWalMagic = 0xD110;
constexpr uint16_t kLongPageHeader = 2;
constexpr uint32_t kLongPageHeaderBytes = 40;
constexpr uint32_t kRecordHeaderBytes = 24;
constexpr uint8_t kNoopInfo = 0x20;
constexpr uint8_t kBackupEndInfo = 0x50;
constexpr uint8_t kShortData = 255;
constexpr uint8_t kLongData = 254;
constexpr uint64_t kBackupEndBytes = 40;  // 24 + 2 + 8, aligned to 8.
constexpr uint64_t kSmallestNoopBytes = 32;

constexpr uint32_t kFirstRelation = 16384;
constexpr uint32_t kDatabase = 5;
// One block in this many is changed by every DELTA of a synthetic chain.
constexpr uint32_t kChangeStride = 8;

// A WAL record whose data fill it to `bytes`, or hold `data` where that is given.
std::string MakeRecord(uint8_t info, uint64_t previous, uint64_t bytes, std::string_view data) {
  std::string body;
  if (!data.empty() || bytes - kRecordHeaderBytes - 2 <= 255) {
    const size_t length = data.empty() ? bytes - kRecordHeaderBytes - 2 : data.size();
    body += static_cast<char>(kShortData);
    body += static_cast<char>(length);
    body += data.empty() ? std::string(length, '\0') : std::string(data);
  } else {
    uint8_t length[4];
    PutLe(length, bytes - kRecordHeaderBytes - 5, 4);
    body += static_cast<char>(kLongData);
    body.append(reinterpret_cast<const char*>(length), 4);
    body.append(bytes - kRecordHeaderBytes - 5, '\0');
  }
  uint8_t header[kRecordHeaderBytes] = {};
  PutLe(header, kRecordHeaderBytes + body.size(), 4);
  PutLe(header + 8, previous, 8);
  header[16] = info;
  // The CRC covers the body first, then the header up to the CRC itself.
  PutLe(header + 20, Crc32c(header, 20, Crc32c(body)), 4);
  return std::string(reinterpret_cast<const char*>(header), sizeof(header)) + body;
}

std::string BackupLabel(const Backup& backup, uint64_t segment_bytes) {
  const BackupOptions& options = backup.options();
  const std::string time = FormatTime(options.start_time);
  const std::string segment = WalSegmentName(options.timeline, backup.start_lsn(), segment_bytes);
  return "START WAL LOCATION: " + FormatLsn(backup.start_lsn()) + " (file " + segment + ")\n" +
         "CHECKPOINT LOCATION: " + FormatLsn(backup.start_lsn() + 0x38) + "\n" +
         "BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: " + time.substr(0, 19) +
         " UTC\nLABEL: " + time +
         " with pg_probackup\nSTART TIMELINE: " + std::to_string(options.timeline) + "\n";
}

PageFill FillOf(uint32_t absolute_block) {
  switch (absolute_block % 16) {
    case 5:
      return PageFill::kRandom;
    case 9:
      return PageFill::kSparse;
    case 13:
      return PageFill::kZero;
    default:
      return PageFill::kText;
  }
}

// The generation, at most `generation`, that wrote this block last.
int LastChange(uint32_t absolute_block, int generation) {
  while (generation > 0 &&
         absolute_block % kChangeStride != static_cast<uint32_t>(generation) % kChangeStride) {
    --generation;
  }
  return generation;
}

void AddSyntheticRelation(Backup& backup, int relation, uint32_t blocks, int generation) {
  for (uint32_t first = 0; first < blocks || first == 0; first += kBlocksPerSegment) {
    const uint32_t segment = first / kBlocksPerSegment;
    const uint32_t length = std::min(blocks - first, kBlocksPerSegment);
    const auto source = [&](uint32_t block) -> std::optional<Page> {
      const uint32_t absolute = first + block;
      // New pages have no LSN that could tell them unchanged: every DELTA stores them.
      const bool stored =
          LastChange(absolute, generation) == generation || FillOf(absolute) == PageFill::kZero;
      if (generation > 0 && !stored) return std::nullopt;
      return SyntheticPage(relation, absolute, generation);
    };
    backup.AddRelation(SyntheticPath(relation, segment), static_cast<int>(segment), length,
                       PageSource(source));
  }
}

}  // namespace

std::string MakePgControl(const ControlFileOptions& options) {
  std::string bytes(kControlFileBytes, '\0');
  uint8_t* control = reinterpret_cast<uint8_t*>(bytes.data());
  const auto put = [control](size_t offset, uint64_t value, size_t size) {
    PutLe(control + offset, value, size);
  };
  put(0, options.system_identifier, 8);
  put(8, kControlVersion, 4);
  put(12, kCatalogVersion, 4);
  put(16, 6, 4);  // In production.
  put(24, static_cast<uint64_t>(options.time), 8);
  put(32, options.checkpoint_lsn, 8);
  // The copy of the checkpoint record.
  put(40, options.redo_lsn, 8);
  put(48, options.timeline, 4);
  put(52, options.timeline, 4);
  put(56, 1, 1);      // Full page writes.
  put(64, 800, 8);    // Next transaction.
  put(72, 24576, 4);  // Next OID.
  put(76, 1, 4);      // Next multixact.
  put(84, 717, 4);    // Oldest transaction and its database.
  put(88, 1, 4);
  put(92, 1, 4);  // Oldest multixact and its database.
  put(96, 1, 4);
  put(104, static_cast<uint64_t>(options.time), 8);
  put(120, 800, 4);   // Oldest active transaction.
  put(128, 1000, 8);  // Fake LSN of unlogged relations.
  // The settings that a standby must not go below.
  put(172, 1, 4);    // wal_level replica.
  put(180, 100, 4);  // max_connections
  put(184, 8, 4);    // max_worker_processes
  put(188, 10, 4);   // max_wal_senders
  put(196, 64, 4);   // max_locks_per_transaction
  put(204, 8, 4);    // Alignment.
  const double float_format = 1234567.0;
  memcpy(control + 208, &float_format, sizeof(float_format));
  put(216, kBlockSize, 4);
  put(220, kBlocksPerSegment, 4);
  put(224, 8192, 4);  // WAL block.
  put(228, options.wal_segment_bytes, 4);
  put(232, 64, 4);    // Bytes of a name.
  put(236, 32, 4);    // Columns of an index.
  put(240, 1996, 4);  // Bytes of a TOAST chunk.
  put(244, 2048, 4);  // Bytes of a large object's chunk.
  put(248, 1, 1);     // 8-byte floats by value.
  put(252, options.data_checksum_version, 4);
  put(kControlCrcOffset, Crc32c(control, kControlCrcOffset), 4);
  return bytes;
}

uint32_t ControlFileCrc(const std::string& pg_control) {
  const uint8_t* control = reinterpret_cast<const uint8_t*>(pg_control.data());
  uint32_t crc = 0;
  for (size_t offset = 0; offset + 4 <= std::min<size_t>(pg_control.size(), 512); offset += 4) {
    if (offset > 128 && GetLe(control + offset, 4) == crc) return crc;
    crc = Crc32c(control + offset, 4, crc);
  }
  return 0;
}

std::string MakeWalSegment(uint64_t start_lsn, uint64_t stop_lsn, uint32_t timeline,
                           uint64_t system_identifier, uint32_t segment_bytes) {
  std::string bytes(segment_bytes, '\0');
  uint8_t* header = reinterpret_cast<uint8_t*>(bytes.data());
  PutLe(header, kWalMagic, 2);
  PutLe(header + 2, kLongPageHeader, 2);
  PutLe(header + 4, timeline, 4);
  PutLe(header + 8, start_lsn - start_lsn % segment_bytes, 8);
  PutLe(header + 24, system_identifier, 8);
  PutLe(header + 32, segment_bytes, 4);
  PutLe(header + 36, 8192, 4);

  const uint64_t noop_bytes = stop_lsn - start_lsn - kBackupEndBytes;
  uint8_t start[8];
  PutLe(start, start_lsn, 8);
  const std::string_view start_text(reinterpret_cast<const char*>(start), sizeof(start));
  const std::string noop = MakeRecord(kNoopInfo, 0, noop_bytes, "");
  const std::string end = MakeRecord(kBackupEndInfo, start_lsn, 0, start_text);
  const size_t offset = start_lsn % segment_bytes;
  bytes.replace(offset, noop.size(), noop);
  bytes.replace(offset + noop_bytes, end.size(), end);
  return bytes;
}

void AddMinimalCluster(Backup& backup, const ClusterOptions& options) {
  constexpr uint32_t kSegmentBytes = 16u << 20;
  for (const char* directory : {"base",
                                "base/1",
                                "base/4",
                                "base/5",
                                "global",
                                "pg_commit_ts",
                                "pg_dynshmem",
                                "pg_logical",
                                "pg_logical/mappings",
                                "pg_logical/snapshots",
                                "pg_multixact",
                                "pg_multixact/members",
                                "pg_multixact/offsets",
                                "pg_notify",
                                "pg_replslot",
                                "pg_serial",
                                "pg_snapshots",
                                "pg_stat",
                                "pg_stat_tmp",
                                "pg_subtrans",
                                "pg_tblspc",
                                "pg_twophase",
                                "pg_wal",
                                "pg_xact"}) {
    backup.AddDirectory(directory);
  }
  for (const char* version :
       {"PG_VERSION", "base/1/PG_VERSION", "base/4/PG_VERSION", "base/5/PG_VERSION"}) {
    backup.AddFile(version, "15\n");
  }
  backup.AddFile("postgresql.conf",
                 "# A configuration for tests.\nmax_connections = 100\nport = 5432\n");
  backup.AddFile("postgresql.auto.conf", "# Do not edit this file manually!\n");
  backup.AddFile("pg_hba.conf", "local all all trust\n");
  backup.AddFile("pg_ident.conf", "# No maps.\n");
  backup.AddFile("pg_xact/0000", std::string(8192, '\x55'));

  ControlFileOptions control;
  control.system_identifier = options.system_identifier;
  control.redo_lsn = backup.start_lsn();
  control.checkpoint_lsn = backup.start_lsn() + 0x38;
  control.timeline = backup.options().timeline;
  control.data_checksum_version = backup.options().checksum_version;
  control.time = backup.options().start_time;
  const std::string pg_control = MakePgControl(control);
  FileOptions pg_control_options;
  if (backup.rules().inner_control_crc) pg_control_options.listed_crc = ControlFileCrc(pg_control);
  backup.AddFile("global/pg_control", pg_control, pg_control_options);

  if (options.backup_label) {
    backup.AddFile("backup_label", BackupLabel(backup, kSegmentBytes),
                   {.mode = 0100644, .appended_late = true});
  }
  const uint64_t start = backup.start_lsn();
  const uint64_t stop = backup.stop_lsn();
  const bool describable = start % kSegmentBytes == kLongPageHeaderBytes && stop % 8 == 0 &&
                           stop >= start + kSmallestNoopBytes + kBackupEndBytes &&
                           stop - start < 8000;
  if (options.wal && backup.options().stream && describable) {
    backup.AddFile(
        "pg_wal/" + WalSegmentName(control.timeline, start, kSegmentBytes),
        MakeWalSegment(start, stop, control.timeline, options.system_identifier, kSegmentBytes),
        {.appended_late = true});
  }
  backup.AddFile("database_map", "{\"dbOid\":\"5\", \"datname\":\"postgres\"}\n",
                 {.mode = 0100644, .appended_late = true});
}

std::string SyntheticPath(int relation, uint32_t segment) {
  const std::string path = "base/" + std::to_string(kDatabase) + "/" +
                           std::to_string(kFirstRelation + static_cast<uint32_t>(relation));
  return segment == 0 ? path : path + "." + std::to_string(segment);
}

Page SyntheticPage(int relation, uint32_t absolute_block, int generation) {
  const int change = LastChange(absolute_block, generation);
  // Between the start of the previous backup and the start of the one that stores the page.
  const uint64_t lsn = 0x3000028 + static_cast<uint64_t>(change) * 0x2000000;
  const uint64_t seed = static_cast<uint64_t>(relation) * 1000 + static_cast<uint64_t>(change);
  return MakePage(seed, lsn, absolute_block, FillOf(absolute_block));
}

std::string WriteSyntheticChain(CatalogWriter& writer, const SyntheticChain& chain) {
  std::string id;
  for (int generation = 0; generation < chain.backups; ++generation) {
    BackupOptions options = chain.options;
    options.codec = chain.codec;
    const auto backup =
        writer.Begin(generation == 0 ? BackupMode::kFull : BackupMode::kDelta, options);
    AddMinimalCluster(*backup);
    for (int relation = 0; relation < chain.relations; ++relation) {
      AddSyntheticRelation(*backup, relation, chain.blocks, generation);
    }
    id = backup->Finish();
  }
  return id;
}

}  // namespace pbkfs::testsupport
