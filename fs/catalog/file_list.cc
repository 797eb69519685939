#include "fs/catalog/file_list.h"

#include <sys/stat.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "fs/base/status.h"
#include "fs/catalog/beneath.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

constexpr std::pair<CompressAlg, absl::string_view> kAlgorithms[] = {
    {CompressAlg::kNone, "none"}, {CompressAlg::kZlib, "zlib"}, {CompressAlg::kPglz, "pglz"},
    {CompressAlg::kLz4, "lz4"},   {CompressAlg::kZstd, "zstd"},
};

absl::Status Corrupt(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt, what);
}

// Any case and any unambiguous prefix, as pg_probackup itself reads it.
absl::StatusOr<CompressAlg> ParseAlgorithm(absl::string_view text) {
  const std::pair<CompressAlg, absl::string_view>* found = nullptr;
  int matches = 0;
  for (const auto& algorithm : kAlgorithms) {
    if (text.empty() || !absl::StartsWithIgnoreCase(algorithm.second, text)) continue;
    found = &algorithm;
    ++matches;
  }
  if (matches == 1) return found->first;
  return ReasonError(
      absl::StatusCode::kUnimplemented, reason::kUnsupportedFormat,
      absl::StrCat("compress_alg '", text,
                   "' is not known; this version of pbkfs can't read such a backup"));
}

// Decimal with an optional '-'. What overflows counts as -1: old writers printed -1 as unsigned.
bool ParseInteger(absl::string_view text, int64_t& value) {
  const bool negative = absl::ConsumePrefix(&text, "-");
  if (text.empty()) return false;
  int64_t magnitude = 0;
  bool overflow = false;
  for (const char c : text) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(c))) return false;
    overflow = overflow || __builtin_mul_overflow(magnitude, int64_t{10}, &magnitude) ||
               __builtin_add_overflow(magnitude, int64_t{c - '0'}, &magnitude);
  }
  value = overflow ? -1 : negative ? -magnitude : magnitude;
  return true;
}

void SkipSpaces(absl::string_view& text) {
  while (!text.empty() && text[0] == ' ') text.remove_prefix(1);
}

// Takes `"..."` from the front; the content must not hold a quote.
bool TakeQuoted(absl::string_view& text, absl::string_view& content) {
  if (!absl::ConsumePrefix(&text, "\"")) return false;
  const size_t end = text.find('"');
  if (end == absl::string_view::npos) return false;
  content = text.substr(0, end);
  text.remove_prefix(end + 1);
  return true;
}

// Cuts `{"path":"<path>", ` from the front of a line. Nothing is escaped in the list, so the path
// is whatever stands before the last `"size":"`.
bool TakePath(absl::string_view& line, absl::string_view& path) {
  absl::string_view rest = line;
  if (!absl::ConsumePrefix(&rest, "{")) return false;
  SkipSpaces(rest);
  if (!absl::ConsumePrefix(&rest, "\"path\"")) return false;
  SkipSpaces(rest);
  if (!absl::ConsumePrefix(&rest, ":")) return false;
  SkipSpaces(rest);
  if (!absl::ConsumePrefix(&rest, "\"")) return false;
  const size_t size_key = rest.rfind("\"size\"");
  if (size_key == absl::string_view::npos) return false;
  absl::string_view before = rest.substr(0, size_key);
  while (absl::ConsumeSuffix(&before, " ")) {
  }
  if (!absl::ConsumeSuffix(&before, ",")) return false;
  while (absl::ConsumeSuffix(&before, " ")) {
  }
  if (!absl::ConsumeSuffix(&before, "\"")) return false;
  path = before;
  line = rest.substr(size_key);
  return true;
}

// The numeric keys, their ranges (format document, section 13) and where they go.
enum Field {
  kSize,
  kMode,
  kIsDatafile,
  kCrc,
  kIsCfs,
  kExternalDir,
  kDbOid,
  kFullSize,
  kSegno,
  kBlocks,
  kHeaders,
  kHeaderCrc,
  kHeaderOffset,
  kHeaderSize,
  kFieldCount,
};
constexpr int kMandatoryFields = kCrc + 1;
constexpr int64_t kMaxUint32 = std::numeric_limits<uint32_t>::max();
constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();
struct FieldRule {
  absl::string_view key;
  int64_t min;
  int64_t max;
  int64_t missing;
};
constexpr FieldRule kRules[kFieldCount] = {
    {"size", -1, kMaxInt64, 0},
    {"mode", 0, kMaxUint32, 0},
    {"is_datafile", 0, 1, 0},
    {"crc", 0, kMaxUint32, 0},
    {"is_cfs", 0, 1, 0},
    {"external_dir_num", 0, kMaxExternalDirs, 0},
    {"dbOid", 0, kMaxUint32, 0},
    {"full_size", -1, kMaxInt64, 0},
    {"segno", 0, kMaxSegment, 0},
    {"n_blocks", -1, kSegmentBlocks, -1},
    {"n_headers", 0, kSegmentBlocks, 0},
    {"hdr_crc", 0, kMaxUint32, 0},
    {"hdr_off", 0, kMaxInt64 - kMaxHeaderBlobBytes, 0},
    {"hdr_size", 0, kMaxHeaderBlobBytes, 0},
};

struct ParsedLine {
  FileEntry entry;
  absl::string_view linked;  // Target of a legacy symlink entry.
  int64_t values[kFieldCount];
  bool given[kFieldCount] = {};
  int next_field = 0;
};

absl::Status TakeField(absl::string_view key, absl::string_view value, ParsedLine& line) {
  for (int tried = 0; tried < kFieldCount; ++tried) {
    // Writers keep an order of the keys: the next one is mostly the one after the last.
    const int field = (line.next_field + tried) % kFieldCount;
    const FieldRule& rule = kRules[field];
    if (key != rule.key) continue;
    line.next_field = field + 1;
    int64_t number;
    if (!ParseInteger(value, number) || number < rule.min || number > rule.max) {
      return Corrupt(absl::StrCat(key, " is '", value, "', which is out of its range"));
    }
    line.values[field] = number;
    line.given[field] = true;
    return absl::OkStatus();
  }
  if (key == "compress_alg") {
    PBKFS_ASSIGN_OR_RETURN(line.entry.compress_alg, ParseAlgorithm(value));
  } else if (key == "linked") {
    line.linked = value;
  }
  return absl::OkStatus();  // Keys that we don't know are ignored.
}

// Reads `"key":"value", …}` into `line`.
absl::Status TakeFields(absl::string_view rest, ParsedLine& line) {
  for (int i = 0; i < kFieldCount; ++i) line.values[i] = kRules[i].missing;
  while (true) {
    absl::string_view key;
    absl::string_view value;
    SkipSpaces(rest);
    bool good = TakeQuoted(rest, key);
    SkipSpaces(rest);
    good = good && absl::ConsumePrefix(&rest, ":");
    SkipSpaces(rest);
    if (!good || !TakeQuoted(rest, value)) return Corrupt("the line is malformed");
    PBKFS_RETURN_IF_ERROR(TakeField(key, value, line));
    SkipSpaces(rest);
    if (absl::ConsumePrefix(&rest, ",")) continue;
    if (absl::StripTrailingAsciiWhitespace(rest) == "}") return absl::OkStatus();
    return Corrupt("the line has no end");
  }
}

// Rules between the fields of one entry.
absl::Status CheckEntry(const FileEntry& entry) {
  if (!IsSafeRelativePath(entry.path)) return Corrupt("the path is not a safe relative path");
  if (!S_ISREG(entry.mode) && !S_ISDIR(entry.mode) && !S_ISLNK(entry.mode)) {
    return Corrupt(absl::StrCat("mode ", entry.mode, " is no file, directory or symlink"));
  }
  if (!entry.IsPageStream()) return absl::OkStatus();
  if (!S_ISREG(entry.mode)) return Corrupt("a data file must be a regular file");
  if (entry.size > kMaxPageStreamBytes) return Corrupt("a data file can't be that long");
  if (entry.size > 0 && entry.size < entry.n_headers * kMinRecordBytes) {
    return Corrupt("the data file is too short for its blocks");
  }
  return absl::OkStatus();
}

absl::StatusOr<ParsedLine> ParseLine(absl::string_view text) {
  if (text.size() > kMaxListLineBytes) return Corrupt("the line is too long");
  ParsedLine line;
  FileEntry& entry = line.entry;
  if (!TakePath(text, entry.path)) return Corrupt("the line does not begin with a path");
  PBKFS_RETURN_IF_ERROR(TakeFields(text, line));
  for (int field = 0; field < kMandatoryFields; ++field) {
    if (!line.given[field]) return Corrupt(absl::StrCat("there is no ", kRules[field].key));
  }
  const auto& values = line.values;
  entry.size = values[kSize];
  entry.mode = static_cast<uint16_t>(values[kMode] & (S_IFMT | 07777));
  entry.is_datafile = values[kIsDatafile] != 0;
  entry.is_cfs = values[kIsCfs] != 0;
  entry.crc = static_cast<uint32_t>(values[kCrc]);
  entry.external_dir = static_cast<uint16_t>(values[kExternalDir]);
  entry.db_oid = static_cast<uint32_t>(values[kDbOid]);
  entry.segno = static_cast<uint16_t>(values[kSegno]);
  entry.n_blocks = static_cast<int32_t>(values[kBlocks]);
  entry.n_headers = static_cast<int32_t>(values[kHeaders]);
  entry.hdr_crc = static_cast<uint32_t>(values[kHeaderCrc]);
  entry.hdr_off = values[kHeaderOffset];
  entry.hdr_size = static_cast<int32_t>(values[kHeaderSize]);
  PBKFS_RETURN_IF_ERROR(CheckEntry(entry));
  if (line.linked.find('\0') != absl::string_view::npos) return Corrupt("the link has a NUL byte");
  return line;
}

bool EntryLess(const FileEntry& a, const FileEntry& b) {
  if (a.external_dir != b.external_dir) return a.external_dir < b.external_dir;
  return a.path < b.path;
}

}  // namespace

absl::string_view CompressAlgName(CompressAlg algorithm) {
  for (const auto& [known, name] : kAlgorithms) {
    if (known == algorithm) return name;
  }
  return "unknown";
}

bool FileEntry::IsTablespaceLink() const {
  absl::string_view name = path;
  return S_ISLNK(mode) && absl::ConsumePrefix(&name, "pg_tblspc/") && !absl::StrContains(name, '/');
}

absl::StatusOr<FileList> FileList::Parse(std::string text, const FileList* sharer) {
  if (text.size() > kMaxFileListBytes) {
    return Corrupt(absl::StrCat("the list has more than ", kMaxFileListBytes, " bytes"));
  }
  FileList list;
  absl::string_view rest = text;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const absl::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty()) continue;
    const absl::StatusOr<ParsedLine> parsed = ParseLine(line);
    if (!parsed.ok()) return Annotate(parsed.status(), absl::StrCat("line ", number));
    list.entries_.push_back(parsed->entry);
    if (!parsed->linked.empty()) {
      list.links_.push_back({parsed->entry.path, parsed->entry.external_dir, parsed->linked});
    }
  }
  std::sort(list.entries_.begin(), list.entries_.end(), EntryLess);
  list.entries_.shrink_to_fit();
  list.KeepTexts(sharer);
  PBKFS_RETURN_IF_ERROR(list.CheckNames());
  return list;
}

void FileList::KeepTexts(const FileList* sharer) {
  static const std::vector<FileEntry>& nothing = *new std::vector<FileEntry>();
  const std::vector<FileEntry>& shared = sharer != nullptr ? sharer->entries_ : nothing;
  // Both lists are sorted: one pass over both finds what they have in common.
  size_t at = 0;
  const auto share = [&shared, &at](FileEntry& entry) {
    while (at < shared.size() && EntryLess(shared[at], entry)) ++at;
    if (at == shared.size() || EntryLess(entry, shared[at])) return false;
    entry.path = shared[at].path;
    return true;
  };
  std::vector<FileEntry*> own;
  size_t own_bytes = 0;
  for (FileEntry& entry : entries_) {
    if (share(entry)) continue;
    own.push_back(&entry);
    own_bytes += entry.path.size();
  }
  for (const Link& link : links_) own_bytes += link.path.size() + link.target.size();
  text_.reserve(own_bytes);  // Views into it must stay valid while it grows.
  const auto keep = [this](absl::string_view& view) {
    const size_t begin = text_.size();
    text_.insert(text_.end(), view.begin(), view.end());
    view = absl::string_view(text_.data() + begin, view.size());
  };
  for (FileEntry* entry : own) keep(entry->path);
  for (Link& link : links_) {
    keep(link.path);
    keep(link.target);
  }
}

absl::string_view FileList::LinkTarget(const FileEntry& entry) const {
  for (const Link& link : links_) {
    if (link.path == entry.path && link.external_dir == entry.external_dir) return link.target;
  }
  return "";
}

// A path stands for one thing only: no duplicates, and nothing below what is not a directory.
absl::Status FileList::CheckNames() const {
  for (size_t i = 0; i < entries_.size(); ++i) {
    const FileEntry& entry = entries_[i];
    if (i > 0 && !EntryLess(entries_[i - 1], entry)) {
      return Corrupt(absl::StrCat("'", entry.path, "' is listed twice"));
    }
    absl::string_view path = entry.path;
    size_t slash;
    while ((slash = path.rfind('/')) != absl::string_view::npos) {
      path = path.substr(0, slash);
      // Neighbours mostly share their directory, which then has been looked at.
      if (i > 0 && entries_[i - 1].external_dir == entry.external_dir &&
          absl::StartsWith(entries_[i - 1].path, path) &&
          entries_[i - 1].path.size() > path.size() && entries_[i - 1].path[path.size()] == '/') {
        break;
      }
      const FileEntry* directory = Find(path, entry.external_dir);
      if (directory == nullptr) continue;
      if (S_ISDIR(directory->mode) || directory->IsTablespaceLink()) break;
      return Corrupt(absl::StrCat("'", path, "' is listed as a file and as a directory"));
    }
  }
  return absl::OkStatus();
}

const FileEntry* FileList::Find(absl::string_view path, int32_t external_dir) const {
  FileEntry wanted;
  wanted.path = path;
  wanted.external_dir = static_cast<uint16_t>(external_dir);
  const auto found = std::lower_bound(entries_.begin(), entries_.end(), wanted, EntryLess);
  if (found == entries_.end() || found->external_dir != external_dir || found->path != path) {
    return nullptr;
  }
  return &*found;
}

}  // namespace pbkfs
