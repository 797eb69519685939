#include "tests/support/format_rules.h"

#include <zlib.h>

#include <cstdio>
#include <string>

#include "tests/support/page_format.h"

namespace pbkfs::testsupport {

FormatRules RulesOf(std::string_view program_version) {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned patch = 0;
  if (sscanf(std::string(program_version).c_str(), "%u.%u.%u", &major, &minor, &patch) != 3) {
    return FormatRules();
  }
  const unsigned version = major * 10000 + minor * 100 + patch;
  FormatRules rules;
  if (version >= 20022 && version <= 20024) rules.file_crc = FileCrc::kCrc32;
  rules.inner_control_crc = version >= 20025;
  rules.raw_page_is_8192 = version >= 20023;
  rules.unsigned_sizes = version <= 20017;
  rules.external_dir_key = version >= 20100;
  rules.database_key = version >= 20200;
  rules.block_count = version < 20300   ? BlockCount::kDeltaOnly
                      : version < 20400 ? BlockCount::kAlways
                                        : BlockCount::kPositiveOnly;
  rules.truncation_markers = version < 20300;
  rules.stores_empty_files = version < 20300;
  rules.content_crc = version >= 20302;
  rules.padded = version < 20400;
  rules.header_map = version >= 20400;
  rules.full_size = version >= 20509;
  rules.size_totals = version >= 20200;
  rules.zone_hours = version >= 20406 ? 0 : 3;
  return rules;
}

uint32_t FileCrcOf(FileCrc kind, const void* data, size_t size, uint32_t crc) {
  if (kind == FileCrc::kCrc32c) return Crc32c(data, size, crc);
  return static_cast<uint32_t>(crc32_z(crc, static_cast<const Bytef*>(data), size));
}

}  // namespace pbkfs::testsupport
