// What the versions of pg_probackup wrote differently: the version gates of the format description,
// as the writer needs them.
#ifndef PBKFS_TESTS_SUPPORT_FORMAT_RULES_H_
#define PBKFS_TESTS_SUPPORT_FORMAT_RULES_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pbkfs::testsupport {

// How the CRC of a stored file is computed.
enum class FileCrc {
  kCrc32c,
  kCrc32,  // IEEE, as zlib's crc32().
};

// When the list has n_blocks.
enum class BlockCount {
  kDeltaOnly,    // Before 2.3.0, and whenever it is known there.
  kAlways,       // 2.3.x: zero is written too.
  kPositiveOnly  // From 2.4.0 on.
};

struct FormatRules {
  FileCrc file_crc = FileCrc::kCrc32c;
  bool inner_control_crc = true;  // pg_control lists the CRC that stands inside of it.
  bool raw_page_is_8192 = true;   // A payload of 8192 bytes is always the page itself.
  bool unsigned_sizes = false;    // -1 is printed as 18446744073709551615.
  bool external_dir_key = true;   // external_dir_num
  bool database_key = true;       // dbOid
  BlockCount block_count = BlockCount::kPositiveOnly;
  bool truncation_markers = false;  // Written by PAGE backups where a relation became shorter.
  bool stores_empty_files = false;  // An empty file has a physical file.
  bool content_crc = true;
  bool padded = false;     // Payloads are filled up to a multiple of 8.
  bool header_map = true;  // page_header_map and the keys that point into it
  bool full_size = true;
  bool size_totals = true;  // uncompressed-bytes and pgdata-bytes
  int zone_hours = 0;       // Times are in the zone of the host; this one is east of Greenwich.
};

// `program_version` is like "2.3.5"; what has not three numbers gets the newest rules.
FormatRules RulesOf(std::string_view program_version);

// The CRC of `size` bytes that follow bytes whose CRC is `crc`; 0 = nothing before.
uint32_t FileCrcOf(FileCrc kind, const void* data, size_t size, uint32_t crc = 0);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_FORMAT_RULES_H_
