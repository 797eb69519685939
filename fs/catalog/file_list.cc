#include "fs/catalog/file_list.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "fs/base/crc32c.h"
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
  for (const auto& [algorithm, name] : kAlgorithms) {
    if (text == name) return algorithm;
  }
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
  if (text.empty() || text[0] != '"') return false;
  // By hand: nearly all are shorter than what a call costs.
  size_t end = 1;
  while (end < text.size() && text[end] != '"') ++end;
  if (end == text.size()) return false;
  content = text.substr(1, end - 1);
  text.remove_prefix(end + 1);
  return true;
}

// The last place of `wanted` in `text`. Faster than a search from the end: lines are short, and
// have it once.
size_t FindLast(absl::string_view text, absl::string_view wanted) {
  size_t last = absl::string_view::npos;
  size_t from = 0;
  while (const void* found =
             memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size())) {
    last = static_cast<size_t>(static_cast<const char*>(found) - text.data());
    from = last + 1;
  }
  return last;
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
  const size_t size_key = FindLast(rest, "\"size\"");
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
  ListedFile file;
  int64_t values[kFieldCount];
  bool given[kFieldCount] = {};
  int next_field = 0;
};

// Takes `"key":"value"` where the next key in the order of the writers stands there, without
// spaces, with a number in its range. Most of a list is read here; whatever else it finds it leaves
// as it is.
bool TakeExpectedField(absl::string_view& text, ParsedLine& line) {
  if (line.next_field >= kFieldCount) return false;
  const FieldRule& rule = kRules[line.next_field];
  const size_t key_size = rule.key.size();
  // The quotes, the colon, a digit.
  if (text.size() < key_size + 6 || text[key_size + 1] != '"' || text[key_size + 2] != ':' ||
      text[key_size + 3] != '"' || text[0] != '"' || text.substr(1, key_size) != rule.key) {
    return false;
  }
  constexpr size_t kMaxDigits = 18;  // Of numbers that can't overflow.
  size_t at = key_size + 4;
  const bool negative = text[at] == '-';
  if (negative) ++at;
  const size_t first = at;
  const size_t end = std::min(text.size(), first + kMaxDigits);
  int64_t number = 0;
  for (; at < end && absl::ascii_isdigit(static_cast<unsigned char>(text[at])); ++at) {
    number = number * 10 + (text[at] - '0');
  }
  if (negative) number = -number;
  if (at == first || at == text.size() || text[at] != '"' || number < rule.min ||
      number > rule.max) {
    return false;
  }
  line.values[line.next_field] = number;
  line.given[line.next_field] = true;
  ++line.next_field;
  text.remove_prefix(at + 1);
  return true;
}

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
    PBKFS_ASSIGN_OR_RETURN(line.file.entry.compress_alg, ParseAlgorithm(value));
  } else if (key == "linked") {
    line.file.linked = value;
  }
  return absl::OkStatus();  // Keys that we don't know are ignored.
}

// Reads `"key":"value", …}` into `line`.
absl::Status TakeFields(absl::string_view rest, ParsedLine& line) {
  for (int i = 0; i < kFieldCount; ++i) line.values[i] = kRules[i].missing;
  while (true) {
    SkipSpaces(rest);
    if (!TakeExpectedField(rest, line)) {
      absl::string_view key;
      absl::string_view value;
      bool good = TakeQuoted(rest, key);
      SkipSpaces(rest);
      good = good && absl::ConsumePrefix(&rest, ":");
      SkipSpaces(rest);
      if (!good || !TakeQuoted(rest, value)) return Corrupt("the line is malformed");
      PBKFS_RETURN_IF_ERROR(TakeField(key, value, line));
    }
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

absl::StatusOr<ListedFile> ParseLine(absl::string_view text) {
  if (text.size() > kMaxListLineBytes) return Corrupt("the line is too long");
  ParsedLine line;
  FileEntry& entry = line.file.entry;
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
  if (line.file.linked.find('\0') != absl::string_view::npos) {
    return Corrupt("the link has a NUL byte");
  }
  return line.file;
}

bool EntryLess(const FileEntry& a, const FileEntry& b) {
  if (a.external_dir != b.external_dir) return a.external_dir < b.external_dir;
  return a.path < b.path;
}

// Cuts pieces of a file into lines, and gives them to the visitor.
class LineReader {
 public:
  explicit LineReader(ListVisitor visit) : visit_(visit) {}

  const absl::Status& status() const { return status_; }

  void Take(absl::string_view piece) {
    while (status_.ok()) {
      const size_t end = piece.find('\n');
      if (end == absl::string_view::npos) break;
      TakeLine(piece.substr(0, end));
      piece.remove_prefix(end + 1);
    }
    if (!status_.ok()) return;
    // The line goes on in the next piece; one that is too long already is not collected.
    absl::StrAppend(&rest_, piece.substr(0, kMaxListLineBytes + 1));
    if (rest_.size() > kMaxListLineBytes) TakeLine("");
  }

  // After the last piece: a last line may lack its end.
  void Finish() {
    if (status_.ok()) TakeLine("");
  }

 private:
  void TakeLine(absl::string_view end) {
    ++number_;
    absl::string_view line = end;
    if (!rest_.empty()) {
      absl::StrAppend(&rest_, end);
      line = rest_;
    }
    if (!line.empty()) {
      const absl::StatusOr<ListedFile> file = ParseLine(line);
      status_ = file.ok() ? visit_(*file) : file.status();
      if (!status_.ok()) status_ = Annotate(status_, absl::StrCat("line ", number_));
    }
    rest_.clear();
  }

  const ListVisitor visit_;
  absl::Status status_;
  std::string rest_;  // The begin of a line whose end was not there yet.
  int64_t number_ = 0;
};

// Room for texts is taken in blocks of this size; a path and a link target fit into one.
constexpr size_t kTextBlockBytes = 64 << 10;
static_assert(kMaxListLineBytes < kTextBlockBytes);

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

absl::StatusOr<ListDigest> ReadFileList(const OpenedFile& file, ListVisitor visit) {
  ListDigest digest;
  LineReader lines(visit);
  PBKFS_RETURN_IF_ERROR(ReadInPieces(file, kMaxFileListBytes, [&](absl::string_view piece) {
    digest.bytes += piece.size();
    digest.crc = Crc32c(digest.crc, piece.data(), piece.size());
    lines.Take(piece);
  }));
  lines.Finish();
  digest.status = lines.status();
  return digest;
}

absl::StatusOr<FileList> FileList::Parse(absl::string_view text) {
  FileList list;
  const auto add = [&list](const ListedFile& file) {
    list.Add(file);
    return absl::OkStatus();
  };
  LineReader lines(add);
  lines.Take(text);
  lines.Finish();
  PBKFS_RETURN_IF_ERROR(lines.status());
  PBKFS_RETURN_IF_ERROR(list.Finish());
  return list;
}

void FileList::Add(const ListedFile& file) {
  entries_.push_back(file.entry);
  FileEntry& entry = entries_.back();
  entry.path = Keep(entry.path);
  if (!file.linked.empty()) {
    links_.push_back({entry.path, entry.external_dir, Keep(file.linked)});
  }
}

absl::Status FileList::Finish() {
  std::sort(entries_.begin(), entries_.end(), EntryLess);
  entries_.shrink_to_fit();
  return CheckNames();
}

// In blocks: a text that grows would leave the views into it behind.
absl::string_view FileList::Keep(absl::string_view text) {
  if (text.size() > text_room_) {
    texts_.push_back(std::make_unique<char[]>(kTextBlockBytes));
    text_room_ = kTextBlockBytes;
  }
  char* const place = texts_.back().get() + kTextBlockBytes - text_room_;
  memcpy(place, text.data(), text.size());
  text_room_ -= text.size();
  return absl::string_view(place, text.size());
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
