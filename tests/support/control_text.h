// The text files of a catalog: ids, LSNs, times, lines of backup_content.control, and enough of a
// reader for the writer to extend a chain (format description, sections 1 to 3).
#ifndef PBKFS_TESTS_SUPPORT_CONTROL_TEXT_H_
#define PBKFS_TESTS_SUPPORT_CONTROL_TEXT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "tests/support/format_rules.h"

namespace pbkfs::testsupport {

// One line of backup_content.control. Fields that are written only under a condition say so.
struct Entry {
  std::string path;
  int64_t size = 0;   // Stored bytes; -1 = unchanged since the parent, 0 = empty.
  uint32_t mode = 0;  // Full st_mode.
  bool is_datafile = false;
  bool is_cfs = false;
  uint32_t crc = 0;
  std::string compress_alg = "none";
  int external_dir = 0;
  uint32_t db_oid = 0;
  std::string linked;     // Written where not empty: a legacy symlink.
  int64_t full_size = 0;  // Written where neither 0 nor equal to size.
  int segment = 0;        // Written for data files.
  int64_t n_blocks = 0;   // Written where > 0; before 2.4.0 where not -1.
  int64_t n_headers = 0;  // Written with the three below where > 0.
  uint32_t hdr_crc = 0;
  int64_t hdr_off = 0;
  int64_t hdr_size = 0;

  // Not in the file.
  int64_t source_size = 0;     // Order of the lines: ascending by this,
  bool appended_late = false;  // except those that are written when the copying is over.
};

// The line with its LF, with the keys that a version of these rules knows.
std::string FormatEntry(const Entry& entry, const FormatRules& rules = {});
// Nothing where the line is not an entry.
std::optional<Entry> ParseEntry(std::string_view line);
// The entries of external directory 0 by path.
std::map<std::string, Entry> ParseList(std::string_view text);

// "KEY = VALUE" lines; quotes are taken off. Later keys override.
std::map<std::string, std::string> ParseControl(std::string_view text);

std::string FormatBackupId(int64_t start_time);
int64_t ParseBackupId(std::string_view id);  // -1 where it is not an id.
std::string FormatLsn(uint64_t lsn);
uint64_t ParseLsn(std::string_view text);  // 0 where it is not an LSN.
// 'YYYY-MM-DD HH:MM:SS+00' without the quotes; the zone is one of whole hours east of Greenwich.
std::string FormatTime(int64_t seconds, int zone_hours = 0);
// The database that a path belongs to; 0 for global/ and everything else outside of a database.
uint32_t DatabaseOid(std::string_view path);
// Whether PostgreSQL and the catalog format treat this path as pages of a relation's main fork.
bool IsDataFilePath(std::string_view path, int* segment);
std::string WalSegmentName(uint32_t timeline, uint64_t lsn, uint64_t segment_bytes);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_CONTROL_TEXT_H_
