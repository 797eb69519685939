#include "tests/support/control_text.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <type_traits>
#include <vector>

namespace pbkfs::testsupport {
namespace {

constexpr std::string_view kIdDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

std::string Quoted(std::string_view key, std::string_view value) {
  return "\"" + std::string(key) + "\":\"" + std::string(value) + "\"";
}

template <typename Number>
requires std::is_integral_v<Number> std::string Quoted(std::string_view key, Number value) {
  return Quoted(key, std::string_view(std::to_string(value)));
}

std::optional<std::string_view> Value(std::string_view line, std::string_view key) {
  const std::string needle = "\"" + std::string(key) + "\":\"";
  const size_t start = line.find(needle);
  if (start == std::string_view::npos) return std::nullopt;
  const std::string_view rest = line.substr(start + needle.size());
  return rest.substr(0, rest.find('"'));
}

int64_t Number(std::string_view line, std::string_view key) {
  int64_t number = 0;
  const std::string_view text = Value(line, key).value_or("");
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

// A decimal number without leading zeros that is at most `limit`; nothing else.
std::optional<uint64_t> PlainNumber(std::string_view text, uint64_t limit) {
  uint64_t number = 0;
  if (text.empty() || text.size() > 10 || (text[0] == '0' && text.size() > 1)) return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number > limit)
    return std::nullopt;
  return number;
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  const size_t start = text.find_first_not_of(kSpace);
  if (start == std::string_view::npos) return {};
  return text.substr(start, text.find_last_not_of(kSpace) - start + 1);
}

}  // namespace

std::string FormatEntry(const Entry& entry, const FormatRules& rules) {
  std::string line = "{" + Quoted("path", entry.path);
  // From dbOid on, the separator lost its space.
  const std::string_view late = rules.database_key ? "," : ", ";
  const auto add = [&line](std::string_view separator, const std::string& field) {
    line += separator;
    line += field;
  };
  add(", ", rules.unsigned_sizes ? Quoted("size", static_cast<uint64_t>(entry.size))
                                 : Quoted("size", entry.size));
  add(", ", Quoted("mode", entry.mode));
  add(", ", Quoted("is_datafile", entry.is_datafile ? 1 : 0));
  add(", ", Quoted("is_cfs", entry.is_cfs ? 1 : 0));
  add(", ", Quoted("crc", entry.crc));
  add(", ", Quoted("compress_alg", entry.compress_alg));
  if (rules.external_dir_key) add(", ", Quoted("external_dir_num", entry.external_dir));
  if (rules.database_key) add(", ", Quoted("dbOid", entry.db_oid));
  if (rules.full_size && entry.full_size != 0 && entry.full_size != entry.size) {
    add(late, Quoted("full_size", entry.full_size));
  }
  if (entry.is_datafile) add(late, Quoted("segno", entry.segment));
  if (!entry.linked.empty()) add(late, Quoted("linked", entry.linked));
  const bool zero_is_written = rules.block_count != BlockCount::kPositiveOnly;
  if (entry.n_blocks > 0 || (zero_is_written && entry.is_datafile && entry.n_blocks == 0)) {
    add(late, Quoted("n_blocks", entry.n_blocks));
  }
  if (entry.n_headers > 0) {
    add(late, Quoted("n_headers", entry.n_headers));
    add(late, Quoted("hdr_crc", entry.hdr_crc));
    add(late, Quoted("hdr_off", entry.hdr_off));
    add(late, Quoted("hdr_size", entry.hdr_size));
  }
  return line + "}\n";
}

std::optional<Entry> ParseEntry(std::string_view line) {
  Entry entry;
  const std::optional<std::string_view> path = Value(line, "path");
  if (!path) return std::nullopt;
  entry.path = *path;
  entry.size = Number(line, "size");
  entry.mode = static_cast<uint32_t>(Number(line, "mode"));
  entry.is_datafile = Number(line, "is_datafile") == 1;
  entry.is_cfs = Number(line, "is_cfs") == 1;
  entry.crc = static_cast<uint32_t>(Number(line, "crc"));
  entry.compress_alg = Value(line, "compress_alg").value_or("none");
  entry.external_dir = static_cast<int>(Number(line, "external_dir_num"));
  entry.db_oid = static_cast<uint32_t>(Number(line, "dbOid"));
  entry.full_size = Value(line, "full_size") ? Number(line, "full_size") : entry.size;
  entry.segment = static_cast<int>(Number(line, "segno"));
  entry.n_blocks = Number(line, "n_blocks");
  entry.n_headers = Number(line, "n_headers");
  entry.hdr_crc = static_cast<uint32_t>(Number(line, "hdr_crc"));
  entry.hdr_off = Number(line, "hdr_off");
  entry.hdr_size = Number(line, "hdr_size");
  return entry;
}

std::map<std::string, Entry> ParseList(std::string_view text) {
  std::map<std::string, Entry> entries;
  for (std::string_view line : Split(text, '\n')) {
    std::optional<Entry> entry = ParseEntry(line);
    if (entry && entry->external_dir == 0) entries[entry->path] = *std::move(entry);
  }
  return entries;
}

std::map<std::string, std::string> ParseControl(std::string_view text) {
  std::map<std::string, std::string> values;
  for (std::string_view line : Split(text, '\n')) {
    const size_t equals = line.find('=');
    if (line.starts_with('#') || equals == std::string_view::npos) continue;
    std::string_view value = Trim(line.substr(equals + 1));
    if (value.size() >= 2 && value.front() == '\'' && value.back() == '\'') {
      value = value.substr(1, value.size() - 2);
    }
    values[std::string(Trim(line.substr(0, equals)))] = value;
  }
  return values;
}

std::string FormatBackupId(int64_t start_time) {
  std::string id;
  for (; start_time > 0; start_time /= 36) id += kIdDigits[static_cast<size_t>(start_time % 36)];
  std::reverse(id.begin(), id.end());
  return id;
}

int64_t ParseBackupId(std::string_view id) {
  if (id.empty() || id.size() > 12) return -1;
  int64_t value = 0;
  for (char digit : id) {
    const size_t index = kIdDigits.find(digit);
    if (index == std::string_view::npos) return -1;
    value = value * 36 + static_cast<int64_t>(index);
  }
  return value;
}

std::string FormatLsn(uint64_t lsn) {
  char text[32];
  snprintf(text, sizeof(text), "%X/%X", static_cast<unsigned>(lsn >> 32),
           static_cast<unsigned>(lsn));
  return text;
}

uint64_t ParseLsn(std::string_view text) {
  unsigned high = 0;
  unsigned low = 0;
  if (sscanf(std::string(text).c_str(), "%X/%X", &high, &low) != 2) return 0;
  return static_cast<uint64_t>(high) << 32 | low;
}

std::string FormatTime(int64_t seconds, int zone_hours) {
  const time_t time = static_cast<time_t>(seconds + zone_hours * 3600);
  tm parts{};
  gmtime_r(&time, &parts);
  char text[64];
  strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts);
  char zone[16];
  snprintf(zone, sizeof(zone), "%+03d", zone_hours);
  return std::string(text) + zone;
}

uint32_t DatabaseOid(std::string_view path) {
  const std::vector<std::string_view> parts = Split(path, '/');
  size_t index = 0;
  if (parts[0] == "base") index = 1;
  if (parts[0] == "pg_tblspc") index = 3;
  if (index == 0 || index >= parts.size()) return 0;
  return static_cast<uint32_t>(PlainNumber(parts[index], UINT32_MAX).value_or(0));
}

bool IsDataFilePath(std::string_view path, int* segment) {
  const std::vector<std::string_view> parts = Split(path, '/');
  size_t depth = 0;  // Components of a relation's path.
  if (parts[0] == "global") depth = 2;
  if (parts[0] == "base") depth = 3;
  if (parts[0] == "pg_tblspc") depth = 5;
  if (depth == 0 || parts.size() != depth) return false;
  if (depth > 2 && !PlainNumber(parts[depth - 2], UINT32_MAX)) return false;
  const std::vector<std::string_view> name = Split(parts.back(), '.');
  const std::optional<uint64_t> oid = PlainNumber(name[0], UINT32_MAX);
  std::optional<uint64_t> number = 0;
  if (name.size() == 2) number = PlainNumber(name[1], 32767);
  if (!oid || *oid == 0 || !number || name.size() > 2) return false;
  *segment = static_cast<int>(*number);
  return true;
}

std::string WalSegmentName(uint32_t timeline, uint64_t lsn, uint64_t segment_bytes) {
  const uint64_t number = lsn / segment_bytes;
  const uint64_t per_log = (uint64_t{1} << 32) / segment_bytes;
  char name[32];
  snprintf(name, sizeof(name), "%08X%08X%08X", timeline, static_cast<unsigned>(number / per_log),
           static_cast<unsigned>(number % per_log));
  return name;
}

}  // namespace pbkfs::testsupport
