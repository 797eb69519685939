#include "tests/support/cluster_backup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <thread>

#include "tests/support/cluster_scan.h"
#include "tests/support/fatal.h"
#include "tests/support/files.h"
#include "tests/support/psql_session.h"
#include "tests/support/synthetic_cluster.h"

namespace pbkfs::testsupport {
namespace {

// The server may be in the middle of writing what is being read: look again this often, this far
// apart.
constexpr int kReadTries = 300;
constexpr auto kReadPause = std::chrono::milliseconds(1);
// Two backups a second apart wait for the clock; a clock that was set back by more than this is an
// error.
constexpr int64_t kLongestWaitForClock = 10;

std::vector<std::string> SplitColumns(const std::string& row) {
  std::vector<std::string> columns;
  size_t start = 0;
  for (size_t end; (end = row.find('|', start)) != std::string::npos; start = end + 1) {
    columns.push_back(row.substr(start, end - start));
  }
  columns.push_back(row.substr(start));
  return columns;
}

struct ServerFacts {
  int version = 0;  // 150004
  uint64_t system_identifier = 0;
  uint64_t wal_segment_bytes = 0;
  uint32_t block_bytes = 0;
  bool checksums = false;
  std::string version_directory;
};

ServerFacts AskServer(PsqlSession& psql) {
  const std::vector<std::string> columns = SplitColumns(psql.Value(
      "SELECT current_setting('server_version_num'), s.system_identifier, i.bytes_per_wal_segment,"
      " i.database_block_size, i.data_page_checksum_version, s.catalog_version_no"
      " FROM pg_control_system() s, pg_control_init() i"));
  ServerFacts facts;
  facts.version = atoi(columns.at(0).c_str());
  facts.system_identifier = strtoull(columns.at(1).c_str(), nullptr, 10);
  facts.wal_segment_bytes = strtoull(columns.at(2).c_str(), nullptr, 10);
  facts.block_bytes = static_cast<uint32_t>(atoi(columns.at(3).c_str()));
  facts.checksums = columns.at(4) != "0";
  facts.version_directory = "PG_" + std::to_string(facts.version / 10000) + "_" + columns.at(5);
  if (facts.version < 150000 || facts.version >= 190000 || facts.block_bytes != kBlockSize) {
    Fatal("the server has version " + columns.at(0) + " and blocks of " + columns.at(3) +
          " bytes; backups are made of PostgreSQL 15 or later with blocks of 8192 bytes");
  }
  return facts;
}

// A second that no backup of the instance has yet, later than all of them.
int64_t ClaimStartTime(const CatalogWriter& writer) {
  const int64_t newest = writer.NewestStartTime();
  if (newest - time(nullptr) > kLongestWaitForClock) {
    Fatal("the newest backup " + FormatBackupId(newest) +
          " was made in the future; set the clock or use another catalog");
  }
  while (time(nullptr) <= newest) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  return time(nullptr);
}

class ClusterBackup {
 public:
  explicit ClusterBackup(const ClusterBackupOptions& options)
      : options_(options),
        psql_(options.psql),
        facts_(AskServer(psql_)),
        writer_(options.catalog, options.instance, options.pgdata, facts_.system_identifier,
                facts_.wal_segment_bytes) {}

  std::string Run();

 private:
  void Start();
  void CopyPages(const SourceFile& file);
  void CopyWhole(const SourceFile& file);
  void CopyControlFile();
  void Stop();
  void CopyWal();
  void AddLate(const std::string& path, const std::string& bytes, uint32_t mode);

  const Entry* InParent(const std::string& path) const {
    const auto found = parent_list_.find(path);
    return found == parent_list_.end() ? nullptr : &found->second;
  }

  const ClusterBackupOptions options_;
  PsqlSession psql_;
  const ServerFacts facts_;
  CatalogWriter writer_;
  std::unique_ptr<Backup> backup_;
  uint64_t parent_start_lsn_ = 0;
  std::map<std::string, Entry> parent_list_;
};

// Reads the pages of one segment file; knows when a page is torn.
class SegmentReader {
 public:
  SegmentReader(std::string path, int segment, bool checksums)
      : path_(std::move(path)), segment_(static_cast<uint32_t>(segment)), checksums_(checksums) {
    fd_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0 && errno != ENOENT) FatalErrno("open", path_);
  }
  ~SegmentReader() {
    if (fd_ >= 0) close(fd_);
  }
  SegmentReader(const SegmentReader&) = delete;
  SegmentReader& operator=(const SegmentReader&) = delete;

  bool exists() const { return fd_ >= 0; }

  // Whole blocks now; what the server adds from here on comes back with the WAL.
  uint32_t Blocks() const {
    struct stat status;
    if (fstat(fd_, &status) != 0) FatalErrno("look at", path_);
    return static_cast<uint32_t>(status.st_size / kBlockSize);
  }

  // Nothing at the end of the file: it was truncated meanwhile.
  std::optional<Page> Read(uint32_t block) const {
    Page page;
    for (int tries = 0; tries < kReadTries; ++tries) {
      const ssize_t count =
          pread(fd_, page.data(), page.size(), static_cast<off_t>(block) * kBlockSize);
      if (count < 0) FatalErrno("read", path_);
      if (count == 0) return std::nullopt;
      if (count == static_cast<ssize_t>(page.size()) && IsWhole(page, block)) return page;
      std::this_thread::sleep_for(kReadPause);
    }
    Fatal(path_ + ": block " + std::to_string(block) +
          " has a wrong header or checksum, however often it is read; check the cluster with "
          "pg_amcheck");
  }

 private:
  bool IsWhole(const Page& page, uint32_t block) const {
    if (IsZeroPage(page)) return true;
    if (!HasPlausibleHeader(page)) return false;
    return !checksums_ ||
           StoredChecksum(page) == PageChecksum(page, segment_ * kBlocksPerSegment + block);
  }

  const std::string path_;
  const uint32_t segment_;
  const bool checksums_;
  int fd_ = -1;
};

void ClusterBackup::Start() {
  BackupOptions backup_options;
  backup_options.start_time = ClaimStartTime(writer_);
  backup_options.codec = options_.codec;
  backup_options.zlib_level = options_.zlib_level;
  backup_options.checksum_version = facts_.checksums ? 1 : 0;
  backup_options.server_version = std::to_string(facts_.version / 10000);
  if (options_.mode != BackupMode::kFull) {
    backup_options.parent_id =
        options_.parent_id.empty() ? writer_.NewestUsable() : options_.parent_id;
    if (backup_options.parent_id.empty())
      Fatal("there is no usable backup to extend; make one with --mode full first");
    parent_list_ = writer_.List(backup_options.parent_id);
    parent_start_lsn_ = ParseLsn(writer_.Control(backup_options.parent_id)["start-lsn"]);
    if (parent_start_lsn_ == 0)
      Fatal("the parent " + backup_options.parent_id + " has no start LSN");
  }
  // The slot keeps the server from recycling WAL before it is copied; it ends with the session.
  psql_.Value("SELECT slot_name FROM pg_create_physical_replication_slot('mkcatalog_" +
              std::to_string(getpid()) + "', true, true)");
  backup_options.start_lsn =
      ParseLsn(psql_.Value("SELECT pg_backup_start('" + FormatTime(backup_options.start_time) +
                           " with pg_probackup', true)"));
  // The start made a checkpoint, so that this is the timeline of now.
  backup_options.timeline = static_cast<uint32_t>(
      atoi(psql_.Value("SELECT timeline_id FROM pg_control_checkpoint()").c_str()));
  backup_ = writer_.Begin(options_.mode, backup_options);
}

void ClusterBackup::CopyPages(const SourceFile& file) {
  const SegmentReader reader(options_.pgdata + "/" + file.path, file.segment, facts_.checksums);
  if (!reader.exists()) return;
  const Entry* parent = InParent(file.path);
  uint32_t end = reader.Blocks();
  const uint32_t blocks_at_start = end;
  const auto source = [&](uint32_t block) -> std::optional<Page> {
    if (block >= end) return std::nullopt;
    std::optional<Page> page = reader.Read(block);
    if (!page) {
      end = block;
      return std::nullopt;
    }
    const bool new_block = parent == nullptr || block >= parent->n_blocks;
    if (new_block || IsZeroPage(*page) || PageLsn(*page) >= parent_start_lsn_) return page;
    return std::nullopt;
  };
  backup_->AddRelation(file.path, file.segment, blocks_at_start, PageSource(source),
                       {.mode = file.mode});
  if (end == blocks_at_start) return;
  Entry* entry = backup_->Find(file.path);
  entry->n_blocks = end;
  if (end == 0) entry->size = 0;
}

void ClusterBackup::CopyWhole(const SourceFile& file) {
  const std::optional<std::string> bytes = ReadFileIfExists(options_.pgdata + "/" + file.path);
  if (!bytes) return;
  const Entry* parent = InParent(file.path);
  const uint32_t crc = bytes->empty() ? 0 : Crc32c(*bytes);
  const int64_t size = static_cast<int64_t>(bytes->size());
  const bool always = file.path.ends_with("pg_filenode.map");
  const bool unchanged = parent != nullptr && !always && size > 0 && !parent->is_datafile &&
                         parent->full_size == size && parent->crc == crc;
  if (unchanged) {
    backup_->AddUnchangedFile(file.path, size, crc, file.mode);
  } else {
    backup_->AddFile(file.path, *bytes, {.mode = file.mode});
  }
}

// Last of all copies, as pg_probackup does since 2.5.14.
void ClusterBackup::CopyControlFile() {
  const std::string path = "global/pg_control";
  for (int tries = 0; tries < kReadTries; ++tries) {
    const std::string bytes = ReadWholeFile(options_.pgdata + "/" + path);
    const uint32_t crc = ControlFileCrc(bytes);
    if (crc != 0) {
      backup_->AddFile(path, bytes, {.listed_crc = crc});
      return;
    }
    std::this_thread::sleep_for(kReadPause);
  }
  Fatal(options_.pgdata + "/" + path +
        ": its CRC never matches; is this the directory of the running server?");
}

void ClusterBackup::AddLate(const std::string& path, const std::string& bytes, uint32_t mode) {
  FileOptions options;
  options.mode = mode;
  options.appended_late = true;
  backup_->AddFile(path, bytes, options);
}

void ClusterBackup::CopyWal() {
  const uint64_t bytes = facts_.wal_segment_bytes;
  const uint64_t last = (backup_->stop_lsn() - 1) / bytes;
  for (uint64_t number = backup_->start_lsn() / bytes; number <= last; ++number) {
    const std::string path =
        "pg_wal/" + WalSegmentName(backup_->options().timeline, number * bytes, bytes);
    const std::string segment = ReadWholeFile(options_.pgdata + "/" + path);
    if (segment.size() != bytes) {
      Fatal(path + " is " + std::to_string(segment.size()) + " bytes long instead of " +
            std::to_string(bytes));
    }
    AddLate(path, segment, 0600);
  }
  if (backup_->options().timeline == 1) return;
  char history[32];
  snprintf(history, sizeof(history), "pg_wal/%08X.history", backup_->options().timeline);
  AddLate(history, ReadWholeFile(options_.pgdata + "/" + history), 0600);
}

void ClusterBackup::Stop() {
  // The label has several lines, hence the hex. Nothing is archived, so there is nothing to wait
  // for: the switch to the next segment has flushed this one when the function returns.
  const std::vector<std::string> columns = SplitColumns(psql_.Value(
      "SELECT lsn, encode(convert_to(labelfile, 'UTF8'), 'hex'),"
      " encode(convert_to(coalesce(spcmapfile, ''), 'UTF8'), 'hex') FROM pg_backup_stop(false)"));
  backup_->set_stop_lsn(ParseLsn(columns.at(0)));
  backup_->set_recovery_xid(strtoull(
      psql_.Value("SELECT txid_snapshot_xmax(txid_current_snapshot())").c_str(), nullptr, 10));
  const std::string label = DecodeHex(columns.at(1));
  const std::string map = DecodeHex(columns.at(2));
  AddLate("backup_label", label, 0644);
  if (!map.empty()) AddLate("tablespace_map", map, 0644);
  CopyWal();

  std::string database_map;
  for (const std::string& row :
       psql_.Rows("SELECT oid || '|' || datname FROM pg_database"
                  " WHERE datname NOT IN ('template0', 'template1') ORDER BY oid")) {
    const size_t bar = row.find('|');
    database_map +=
        "{\"dbOid\":\"" + row.substr(0, bar) + "\", \"datname\":\"" + row.substr(bar + 1) + "\"}\n";
  }
  AddLate("database_map", database_map, 0644);
  backup_->set_end_time(std::max<int64_t>(time(nullptr), backup_->options().start_time));
}

std::string ClusterBackup::Run() {
  Start();
  for (const SourceFile& file : ScanCluster(options_.pgdata, facts_.version_directory)) {
    if (file.is_directory) {
      backup_->AddDirectory(file.path, file.mode);
    } else if (file.is_datafile) {
      CopyPages(file);
    } else if (file.path != "global/pg_control") {
      CopyWhole(file);
    }
  }
  CopyControlFile();
  Stop();
  return backup_->Finish();
}

}  // namespace

std::string BackUpCluster(const ClusterBackupOptions& options) {
  return ClusterBackup(options).Run();
}

}  // namespace pbkfs::testsupport
