// Writes backup catalogs as pg_probackup 2.5.16 does, and as its versions since 2.0.17 did: the
// counterpart of fs/catalog and fs/image for tests and for demonstrations. It shares no code with
// them.
//
//   CatalogWriter writer("/tmp/x/catalog", "main");
//   auto full = writer.Begin(BackupMode::kFull);
//   AddMinimalCluster(*full);                                   // synthetic_cluster.h
//   full->AddRelation("base/5/16384", 0, 10, [&](uint32_t block) {
//     return std::optional(MakePage(1, full->start_lsn(), block));
//   });
//   const std::string id = full->Finish();
//   auto delta = writer.Begin(BackupMode::kDelta);              // parent: the newest usable backup
//   delta->AddUnchangedRelation("base/5/16384", 0, 10);
//
// The writer checks little: a test may ask for a catalog that pg_probackup would never make.
// Failures of the file system end the process (fatal.h).
//
// Not thread safe. A Backup must not outlive its CatalogWriter.
#ifndef PBKFS_TESTS_SUPPORT_CATALOG_WRITER_H_
#define PBKFS_TESTS_SUPPORT_CATALOG_WRITER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/control_text.h"
#include "tests/support/data_file_writer.h"
#include "tests/support/format_rules.h"
#include "tests/support/page_format.h"

namespace pbkfs::testsupport {

enum class BackupMode { kFull, kDelta, kPage, kPtrack };
std::string_view BackupModeName(BackupMode mode);

// What is wrong with page_header_map; the list describes the map that it should be.
enum class HeaderMapFault {
  kNone,
  kMissing,
  kShifted,  // After a retried merge: every hdr_off misses by one constant.
  kDamaged,
};

// The defaults make a valid backup; every field can be set to something else, sensible or not.
struct BackupOptions {
  // The id, in Unix seconds; 0 = a minute after the newest backup of the instance.
  int64_t start_time = 0;
  int64_t end_time = 0;        // 0 = start_time + 10.
  std::string directory_name;  // "" = the id.
  // "" = the newest OK or DONE backup of the instance. Not written for a FULL.
  std::string parent_id;
  Codec codec = Codec::kZlib;
  int zlib_level = 1;
  // What the control file and the list call the codec; "" = the truth.
  std::string control_codec_word;
  std::string list_codec_word;
  uint64_t start_lsn = 0;  // 0 = 32 MiB after the parent's, or 0/4000028.
  uint64_t stop_lsn = 0;   // 0 = start_lsn + 0x140.
  uint32_t timeline = 1;
  bool stream = true;
  bool from_replica = false;
  uint32_t block_size = kBlockSize;
  uint32_t wal_block_size = kBlockSize;
  uint32_t checksum_version = 1;
  // Decides the format of everything (format_rules.h). "" = key left out, newest format.
  std::string program_version = "2.5.16";
  HeaderMapFault header_map = HeaderMapFault::kNone;
  bool list_sorted_by_path = false;   // As after a merge; else by size, as after a backup.
  std::string server_version = "15";  // "" = key left out
  uint64_t recovery_xid = 800;
  std::string merge_dest_id;
  std::string primary_conninfo;
  std::string external_dirs;  // Colon separated.
  std::string note;
  // nullopt = the true CRC of the list.
  std::optional<uint32_t> content_crc;
  // Whole lines added at the end of backup.control.
  std::string extra_control_lines;
};

struct FileOptions {
  uint32_t mode = 0100600;
  int external_dir = 0;
  // Written after the copying was over: stands behind the sorted part of the list.
  bool appended_late = false;
  // The CRC that the list gives; nullopt = CRC-32C of the bytes. (pg_control lists the CRC inside
  // of it.)
  std::optional<uint32_t> listed_crc = std::nullopt;
  // A relation only: a marker at this block, behind the stored blocks, says that the file ends
  // here.
  std::optional<uint32_t> truncation_marker = std::nullopt;
  // Plain files of a compressed (CFS) tablespace: the number of a segment makes it a data file, and
  // the size is that of the source where the zero tail was cut off.
  bool is_cfs = false;
  std::optional<int> cfs_segment = std::nullopt;
  int64_t full_size = 0;
};

// The page at a block, or nothing where this backup does not store the block.
using PageSource = std::function<std::optional<Page>(uint32_t block)>;

class Backup {
 public:
  Backup(std::string directory, BackupMode mode, BackupOptions options);
  Backup(const Backup&) = delete;
  Backup& operator=(const Backup&) = delete;

  // One segment of a relation: the source file is `n_blocks` long, blocks count from the start of
  // the segment. In an incremental, a relation of which nothing is stored becomes "unchanged since
  // the parent".
  void AddRelation(const std::string& path, int segment, uint32_t n_blocks,
                   const PageSource& source, const FileOptions& options = {});
  void AddRelation(const std::string& path, int segment, uint32_t n_blocks,
                   const std::map<uint32_t, Page>& pages, const FileOptions& options = {});
  void AddUnchangedRelation(const std::string& path, int segment, uint32_t n_blocks);

  // A copied file. The mode is given in full (0100600) or as permission bits alone.
  void AddFile(const std::string& path, std::string_view bytes, const FileOptions& options = {});
  // A file whose content is that of the parent: `size` and `crc` are those of the content.
  void AddUnchangedFile(const std::string& path, int64_t size, uint32_t crc,
                        uint32_t mode = 0100600);
  void AddDirectory(const std::string& path, uint32_t mode = 0700, int external_dir = 0);

  // The entry, to be read or falsified before Finish; null where there is none.
  Entry* Find(std::string_view path, int external_dir = 0);
  // An entry as it is, without a stored file.
  void AddEntry(Entry entry) { entries_.push_back(std::move(entry)); }

  void set_stop_lsn(uint64_t lsn) { options_.stop_lsn = lsn; }
  void set_end_time(int64_t seconds) { options_.end_time = seconds; }
  void set_recovery_xid(uint64_t xid) { options_.recovery_xid = xid; }

  // Writes the list and the control file. Returns the id.
  std::string Finish(std::string_view status = "OK");

  const std::string& id() const { return id_; }
  const std::string& directory() const { return directory_; }
  BackupMode mode() const { return mode_; }
  const BackupOptions& options() const { return options_; }
  uint64_t start_lsn() const { return options_.start_lsn; }
  uint64_t stop_lsn() const { return options_.stop_lsn; }
  const std::string& parent_id() const { return options_.parent_id; }
  const FormatRules& rules() const { return rules_; }

 private:
  // Where the file of an entry is stored; makes its parent directories.
  std::string StoredPath(const std::string& path, int external_dir);
  void StoreRelation(const std::string& path, int segment, uint32_t n_blocks,
                     const std::function<void(DataFileWriter&)>& append_pages,
                     const FileOptions& options);
  void AppendHeaders(const std::string& blob, Entry& entry);
  void WriteHeaderMap();
  void WriteControl(std::string_view status, uint32_t content_crc);
  std::string ResultLines(std::string_view status, uint32_t content_crc) const;

  const std::string directory_;
  const BackupMode mode_;
  BackupOptions options_;
  const FormatRules rules_;
  const std::string id_;
  std::vector<Entry> entries_;
  std::string headers_;  // page_header_map
};

// One instance of one catalog.
class CatalogWriter {
 public:
  // Makes the directories and pg_probackup.conf where they are missing.
  CatalogWriter(std::string catalog, std::string instance,
                std::string pgdata = "/var/lib/postgresql/15/main",
                uint64_t system_identifier = 7000000000000000001u,
                uint64_t wal_segment_bytes = 16u << 20);

  // Starts a backup; its control file says RUNNING until Finish.
  std::unique_ptr<Backup> Begin(BackupMode mode, BackupOptions options = {});

  // The newest backup that a new one may extend, by directory name; "" where there is none.
  std::string NewestUsable() const;
  // The largest start time of all backups; 0 where there is none.
  int64_t NewestStartTime() const;

  // What the parent of an incremental is asked for.
  std::map<std::string, std::string> Control(const std::string& id) const;
  std::map<std::string, Entry> List(const std::string& id) const;

  const std::string& instance_directory() const { return instance_directory_; }
  std::string BackupDirectory(const std::string& id) const {
    return instance_directory_ + "/" + id;
  }

 private:
  const std::string instance_directory_;
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_CATALOG_WRITER_H_
