// What the version of pg_probackup that made a backup decides about its stored files (format
// document, table of version gates). Members of one chain may differ.
#ifndef PBKFS_FS_CATALOG_FORMAT_RULES_H_
#define PBKFS_FS_CATALOG_FORMAT_RULES_H_

#include <cstdint>

namespace pbkfs {

// Program versions, as a*10000 + b*100 + c.
inline constexpr uint32_t kVersionIeeeFileCrc = 20022;  // Up to 2.0.24.
inline constexpr uint32_t kVersionRawFullPages = 20023;
inline constexpr uint32_t kVersionControlInnerCrc = 20025;
inline constexpr uint32_t kVersionNoMarkers = 20300;
inline constexpr uint32_t kVersionUnpadded = 20400;

struct FormatRules {
  // The payload of a record is padded to a multiple of 8 bytes.
  bool padded_records = false;
  // A record of length -2 says where the restored file ends.
  bool truncation_markers = false;
  // n_blocks is given by DELTA backups only, and the file was cut to it after the backup was
  // applied.
  bool lengths_cut_files = false;
  // A page that compressed to exactly 8192 bytes may be stored compressed.
  bool full_payload_may_be_compressed = false;
  // The CRC of a stored file is the ordinary CRC-32 and not CRC-32C.
  bool ieee_file_crc = false;
  // The CRC that the list gives for pg_control is the one inside of the file.
  bool control_inner_crc = true;

  static constexpr FormatRules Of(uint32_t program_version) {
    FormatRules rules;
    rules.padded_records = program_version < kVersionUnpadded;
    rules.truncation_markers = program_version < kVersionNoMarkers;
    rules.lengths_cut_files = program_version < kVersionNoMarkers;
    rules.full_payload_may_be_compressed = program_version < kVersionRawFullPages;
    rules.control_inner_crc = program_version >= kVersionControlInnerCrc;
    rules.ieee_file_crc =
        program_version >= kVersionIeeeFileCrc && program_version < kVersionControlInnerCrc;
    return rules;
  }
};

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_FORMAT_RULES_H_
