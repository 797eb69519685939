#include "tests/support/catalog_writer.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "tests/support/fatal.h"
#include "tests/support/files.h"

namespace pbkfs::testsupport {
namespace {

// The first id of a synthetic catalog: 2026-01-01, so that ids look like those of real catalogs.
constexpr int64_t kFirstStartTime = 1767225600;
constexpr int64_t kSecondsBetweenBackups = 60;
constexpr uint64_t kFirstStartLsn = 0x4000028;
constexpr uint64_t kLsnBetweenBackups = 0x2000000;
constexpr uint64_t kLsnOfABackup = 0x140;
// What a directory counts for in data-bytes.
constexpr int64_t kDirectoryBytes = 4096;
constexpr int kHeaderMapLevel = 1;
constexpr size_t kLeftoverBytes = 999;  // Inflated; any number will do.
constexpr size_t kDamageStride = 11;    // Shorter than any header blob.

std::string Line(std::string_view key, std::string_view value) {
  return std::string(key) + " = " + std::string(value) + "\n";
}

std::string Line(std::string_view key, uint64_t value) { return Line(key, std::to_string(value)); }

std::string QuotedLine(std::string_view key, std::string_view value) {
  return Line(key, "'" + std::string(value) + "'");
}

// Left out where the value is empty.
std::string OptionalLine(std::string_view key, std::string_view value) {
  return value.empty() ? "" : QuotedLine(key, value);
}

bool IsWalSegment(const Entry& entry) {
  return entry.path.starts_with("pg_wal/") && S_ISREG(entry.mode);
}

BackupOptions WithDefaults(BackupMode mode, BackupOptions options) {
  if (options.start_time == 0) options.start_time = kFirstStartTime;
  if (options.end_time == 0) options.end_time = options.start_time + 10;
  if (options.start_lsn == 0) options.start_lsn = kFirstStartLsn;
  if (options.stop_lsn == 0) options.stop_lsn = options.start_lsn + kLsnOfABackup;
  if (mode == BackupMode::kFull) options.parent_id.clear();
  return options;
}

}  // namespace

std::string_view BackupModeName(BackupMode mode) {
  switch (mode) {
    case BackupMode::kFull:
      return "FULL";
    case BackupMode::kDelta:
      return "DELTA";
    case BackupMode::kPage:
      return "PAGE";
    case BackupMode::kPtrack:
      return "PTRACK";
  }
  return "";
}

Backup::Backup(std::string directory, BackupMode mode, BackupOptions options)
    : directory_(std::move(directory)),
      mode_(mode),
      options_(WithDefaults(mode, std::move(options))),
      rules_(RulesOf(options_.program_version)),
      id_(FormatBackupId(options_.start_time)) {
  MakeDirectories(directory_ + "/database", 0700);
  WriteControl("RUNNING", 0);
}

std::string Backup::StoredPath(const std::string& path, int external_dir) {
  const std::string root = external_dir == 0 ? directory_ + "/database"
                                             : directory_ + "/external_directories/externaldir" +
                                                   std::to_string(external_dir);
  const std::string stored = root + "/" + path;
  MakeDirectories(stored.substr(0, stored.rfind('/')), 0700);
  return stored;
}

void Backup::AppendHeaders(const std::string& blob, Entry& entry) {
  const std::string compressed = ZlibCompress(blob, kHeaderMapLevel);
  entry.hdr_crc = Crc32c(blob);
  entry.hdr_off = static_cast<int64_t>(headers_.size());
  entry.hdr_size = static_cast<int64_t>(compressed.size());
  headers_ += compressed;
}

void Backup::StoreRelation(const std::string& path, int segment, uint32_t n_blocks,
                           const std::function<void(DataFileWriter&)>& append_pages,
                           const FileOptions& options) {
  Entry entry;
  entry.path = path;
  entry.mode = options.mode;
  entry.is_datafile = true;
  entry.external_dir = options.external_dir;
  entry.db_oid = DatabaseOid(path);
  entry.segment = segment;
  const bool counted = rules_.block_count != BlockCount::kDeltaOnly || mode_ == BackupMode::kDelta;
  entry.n_blocks = counted ? static_cast<int64_t>(n_blocks) : -1;
  entry.source_size = static_cast<int64_t>(n_blocks) * kBlockSize;

  DataFileWriter writer(StoredPath(path, options.external_dir), options_.codec, options_.zlib_level,
                        static_cast<uint32_t>(segment), rules_);
  append_pages(writer);
  if (options.truncation_marker) writer.AppendTruncationMarker(*options.truncation_marker);
  const std::string blob = writer.Finish();
  if (writer.stored_bytes() > 0) {
    entry.size = writer.stored_bytes();
    entry.full_size = static_cast<int64_t>(writer.blocks()) * kBlockSize;
    entry.crc = options.listed_crc.value_or(writer.crc());
    entry.compress_alg = options_.list_codec_word.empty()
                             ? CodecName(options_.codec)
                             : std::string_view(options_.list_codec_word);
    if (rules_.header_map) {
      entry.n_headers = writer.blocks();
      AppendHeaders(blob, entry);
    }
  } else if (n_blocks > 0) {
    entry.size = -1;
  }
  entries_.push_back(std::move(entry));
}

void Backup::AddRelation(const std::string& path, int segment, uint32_t n_blocks,
                         const PageSource& source, const FileOptions& options) {
  const auto append = [&source, n_blocks](DataFileWriter& writer) {
    for (uint32_t block = 0; block < n_blocks; ++block) {
      if (const std::optional<Page> page = source(block)) writer.Append(block, *page);
    }
  };
  StoreRelation(path, segment, n_blocks, append, options);
}

void Backup::AddRelation(const std::string& path, int segment, uint32_t n_blocks,
                         const std::map<uint32_t, Page>& pages, const FileOptions& options) {
  const auto append = [&pages, n_blocks](DataFileWriter& writer) {
    for (const auto& [block, page] : pages) {
      if (block < n_blocks) writer.Append(block, page);
    }
  };
  StoreRelation(path, segment, n_blocks, append, options);
}

void Backup::AddUnchangedRelation(const std::string& path, int segment, uint32_t n_blocks) {
  AddRelation(path, segment, n_blocks, PageSource([](uint32_t) { return std::nullopt; }));
}

void Backup::AddFile(const std::string& path, std::string_view bytes, const FileOptions& options) {
  Entry entry;
  entry.path = path;
  entry.mode = (options.mode & S_IFMT) == 0 ? options.mode | S_IFREG : options.mode;
  entry.external_dir = options.external_dir;
  entry.db_oid = DatabaseOid(path);
  entry.appended_late = options.appended_late;
  entry.is_cfs = options.is_cfs;
  entry.is_datafile = options.cfs_segment.has_value();
  entry.segment = options.cfs_segment.value_or(0);
  entry.full_size = options.full_size;
  entry.size = entry.source_size = static_cast<int64_t>(bytes.size());
  entry.n_blocks = -1;
  if (!bytes.empty()) {
    entry.crc = options.listed_crc.value_or(FileCrcOf(rules_.file_crc, bytes.data(), bytes.size()));
  }
  if (!bytes.empty() || rules_.stores_empty_files) {
    WriteWholeFile(StoredPath(path, options.external_dir), bytes, entry.mode & 07777);
  }
  entries_.push_back(std::move(entry));
}

void Backup::AddUnchangedFile(const std::string& path, int64_t size, uint32_t crc, uint32_t mode) {
  Entry entry;
  entry.path = path;
  entry.mode = mode;
  entry.db_oid = DatabaseOid(path);
  entry.size = size == 0 ? 0 : -1;
  entry.full_size = entry.source_size = size;
  entry.crc = crc;
  entries_.push_back(std::move(entry));
}

void Backup::AddDirectory(const std::string& path, uint32_t mode, int external_dir) {
  Entry entry;
  entry.path = path;
  entry.mode = (mode & 07777) | S_IFDIR;
  entry.external_dir = external_dir;
  entry.db_oid = DatabaseOid(path);
  entry.source_size = kDirectoryBytes;
  MakeDirectories(StoredPath(path, external_dir), 0700);
  entries_.push_back(std::move(entry));
}

Entry* Backup::Find(std::string_view path, int external_dir) {
  for (Entry& entry : entries_) {
    if (entry.path == path && entry.external_dir == external_dir) return &entry;
  }
  return nullptr;
}

void Backup::WriteHeaderMap() {
  if (headers_.empty()) return;
  std::string map = headers_;
  switch (options_.header_map) {
    case HeaderMapFault::kNone:
      break;
    case HeaderMapFault::kMissing:
      return;
    case HeaderMapFault::kShifted:
      // What an earlier attempt left behind comes first, and nobody counted it.
      map = ZlibCompress(std::string(kLeftoverBytes, 'L'), kHeaderMapLevel) + headers_;
      break;
    case HeaderMapFault::kDamaged:
      for (size_t i = kDamageStride; i < map.size(); i += kDamageStride) map[i] ^= 0x10;
      break;
  }
  WriteWholeFile(directory_ + "/page_header_map", map, 0600);
}

std::string Backup::Finish(std::string_view status) {
  std::stable_sort(entries_.begin(), entries_.end(), [this](const Entry& left, const Entry& right) {
    if (options_.list_sorted_by_path) return left.path < right.path;
    if (left.appended_late || right.appended_late) return left.appended_late < right.appended_late;
    return left.source_size < right.source_size;
  });
  std::string list;
  for (const Entry& entry : entries_) list += FormatEntry(entry, rules_);
  WriteHeaderMap();
  ReplaceFile(directory_ + "/backup_content.control", list, 0600);
  WriteControl(status, options_.content_crc.value_or(Crc32c(list)));
  return id_;
}

// The last part of backup.control. A running backup has no end, no sizes and no CRC yet.
std::string Backup::ResultLines(std::string_view status, uint32_t content_crc) const {
  const bool running = status == "RUNNING";
  int64_t data_bytes = 0;
  int64_t wal_bytes = 0;
  int64_t uncompressed_bytes = 0;
  int64_t pgdata_bytes = 0;
  for (const Entry& entry : entries_) {
    const bool directory = S_ISDIR(entry.mode);
    const int64_t stored = std::max<int64_t>(entry.size, 0);
    if (entry.external_dir == 0) pgdata_bytes += entry.source_size;
    if (IsWalSegment(entry)) {
      wal_bytes += stored;
      continue;
    }
    data_bytes += directory ? kDirectoryBytes : stored;
    uncompressed_bytes += directory                           ? kDirectoryBytes
                          : stored > 0 && entry.full_size > 0 ? entry.full_size
                                                              : stored;
  }
  std::string text = Line("timelineid", options_.timeline) +
                     Line("start-lsn", FormatLsn(options_.start_lsn)) +
                     Line("stop-lsn", FormatLsn(running ? 0 : options_.stop_lsn)) +
                     QuotedLine("start-time", FormatTime(options_.start_time, rules_.zone_hours));
  if (!running) text += QuotedLine("end-time", FormatTime(options_.end_time, rules_.zone_hours));
  text += Line("recovery-xid", running ? 0 : options_.recovery_xid);
  if (!running) {
    text += QuotedLine("recovery-time", FormatTime(options_.start_time + 1, rules_.zone_hours)) +
            Line("data-bytes", static_cast<uint64_t>(data_bytes)) +
            Line("wal-bytes", static_cast<uint64_t>(wal_bytes));
  }
  if (!running && rules_.size_totals) {
    text += Line("uncompressed-bytes", static_cast<uint64_t>(uncompressed_bytes)) +
            Line("pgdata-bytes", static_cast<uint64_t>(pgdata_bytes));
  }
  text += OptionalLine("merge-dest-id", options_.merge_dest_id) + Line("status", status) +
          OptionalLine("parent-backup-id", options_.parent_id) +
          OptionalLine("primary_conninfo", options_.primary_conninfo) +
          OptionalLine("external-dirs", options_.external_dirs) +
          OptionalLine("note", options_.note);
  if (!running && rules_.content_crc) text += Line("content-crc", content_crc);
  return text + options_.extra_control_lines;
}

void Backup::WriteControl(std::string_view status, uint32_t content_crc) {
  const std::string_view codec = options_.control_codec_word.empty()
                                     ? CodecName(options_.codec)
                                     : std::string_view(options_.control_codec_word);
  std::string text =
      "#Configuration\n" + Line("backup-mode", BackupModeName(mode_)) +
      Line("stream", options_.stream ? "true" : "false") + Line("compress-alg", codec) +
      Line("compress-level", static_cast<uint64_t>(options_.zlib_level)) +
      Line("from-replica", options_.from_replica ? "true" : "false") + "\n#Compatibility\n" +
      Line("block-size", options_.block_size) + Line("xlog-block-size", options_.wal_block_size) +
      Line("checksum-version", options_.checksum_version);
  if (!options_.program_version.empty()) text += Line("program-version", options_.program_version);
  if (!options_.server_version.empty()) text += Line("server-version", options_.server_version);
  text += "\n#Result backup info\n" + ResultLines(status, content_crc);
  ReplaceFile(directory_ + "/backup.control", text, 0600);
}

CatalogWriter::CatalogWriter(std::string catalog, std::string instance, std::string pgdata,
                             uint64_t system_identifier, uint64_t wal_segment_bytes)
    : instance_directory_(catalog + "/backups/" + instance) {
  MakeDirectories(instance_directory_, 0700);
  MakeDirectories(catalog + "/wal/" + instance, 0700);
  const std::string configuration = instance_directory_ + "/pg_probackup.conf";
  if (ReadFileIfExists(configuration)) return;
  WriteWholeFile(configuration,
                 "# Backup instance information\n" + Line("pgdata", pgdata) +
                     Line("system-identifier", system_identifier) +
                     Line("xlog-seg-size", wal_segment_bytes),
                 0600);
}

std::unique_ptr<Backup> CatalogWriter::Begin(BackupMode mode, BackupOptions options) {
  if (mode != BackupMode::kFull && options.parent_id.empty()) {
    options.parent_id = NewestUsable();
    if (options.parent_id.empty()) {
      Fatal(instance_directory_ + ": no usable backup to extend; make a FULL backup first");
    }
  }
  const int64_t newest = NewestStartTime();
  if (options.start_time == 0 && newest > 0) options.start_time = newest + kSecondsBetweenBackups;
  if (options.start_lsn == 0 && newest > 0) {
    const auto previous = Control(FormatBackupId(newest));
    const auto lsn = previous.find("start-lsn");
    if (lsn != previous.end()) options.start_lsn = ParseLsn(lsn->second) + kLsnBetweenBackups;
  }
  options = WithDefaults(mode, std::move(options));
  const std::string name =
      options.directory_name.empty() ? FormatBackupId(options.start_time) : options.directory_name;
  // The directory is what makes an id unique: the file system decides between two writers.
  if (mkdir(BackupDirectory(name).c_str(), 0700) != 0)
    FatalErrno("make the backup directory", BackupDirectory(name));
  return std::make_unique<Backup>(BackupDirectory(name), mode, std::move(options));
}

std::string CatalogWriter::NewestUsable() const {
  std::string newest;
  for (const std::string& name : ListDirectory(instance_directory_)) {
    if (ParseBackupId(name) <= ParseBackupId(newest)) continue;
    const auto control = Control(name);
    const auto status = control.find("status");
    if (status == control.end()) continue;
    if (status->second == "OK" || status->second == "DONE") newest = name;
  }
  return newest;
}

int64_t CatalogWriter::NewestStartTime() const {
  int64_t newest = 0;
  for (const std::string& name : ListDirectory(instance_directory_)) {
    newest = std::max(newest, ParseBackupId(name));
  }
  return newest;
}

std::map<std::string, std::string> CatalogWriter::Control(const std::string& id) const {
  return ParseControl(ReadFileIfExists(BackupDirectory(id) + "/backup.control").value_or(""));
}

std::map<std::string, Entry> CatalogWriter::List(const std::string& id) const {
  return ParseList(ReadWholeFile(BackupDirectory(id) + "/backup_content.control"));
}

}  // namespace pbkfs::testsupport
