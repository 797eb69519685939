#include "fs/catalog/control_file.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

absl::Status Malformed(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt, what);
}

std::string NormalKey(absl::string_view key) {
  std::string normal = absl::AsciiStrToLower(key);
  for (char& c : normal) {
    if (c == '_' || c == ' ') c = '-';
  }
  return normal;
}

// Reads the value that begins at `rest`, which has no leading white space, into `setting`.
void ParseValue(absl::string_view rest, ControlSetting& setting) {
  if (!absl::StartsWith(rest, "'")) {
    const absl::string_view value = rest.substr(0, rest.find_first_of("#\r\t\v"));
    setting.value = std::string(absl::StripTrailingAsciiWhitespace(value));
    return;
  }
  size_t at = 1;
  for (; at < rest.size(); ++at) {
    if (rest[at] == '\'') {
      if (at + 1 >= rest.size() || rest[at + 1] != '\'') break;
      ++at;  // A doubled quote stands for one.
    }
    setting.value.push_back(rest[at]);
  }
  if (at >= rest.size()) {
    setting.problem = "the quoted value has no end";
    return;
  }
  const absl::string_view after = absl::StripLeadingAsciiWhitespace(rest.substr(at + 1));
  if (!after.empty() && after[0] != '#') setting.problem = "text follows the quoted value";
}

// A line without a key gives a setting with an empty key.
ControlSetting ParseLine(absl::string_view line) {
  ControlSetting setting;
  const absl::string_view text = absl::StripAsciiWhitespace(line);
  const size_t key_end = text.find_first_of("=# \t\v\f\r");
  setting.key = NormalKey(text.substr(0, key_end));
  absl::string_view rest = text.substr(std::min(key_end, text.size()));
  rest = absl::StripLeadingAsciiWhitespace(rest);
  if (setting.key.size() > kMaxControlKeyBytes || line.size() > kMaxControlLineBytes) {
    setting.problem = "the line is too long";
  } else if (!absl::ConsumePrefix(&rest, "=")) {
    setting.problem = "there is no '=' after the key";
  } else {
    ParseValue(absl::StripLeadingAsciiWhitespace(rest), setting);
    if (setting.value.size() > kMaxControlValueBytes) setting.problem = "the value is too long";
  }
  return setting;
}

// Base-0 integer: 0x is hex, a leading 0 octal, everything else decimal.
bool ParseMagnitude(absl::string_view text, uint64_t& value) {
  int base = 10;
  if (absl::ConsumePrefix(&text, "0x") || absl::ConsumePrefix(&text, "0X")) {
    base = 16;
  } else if (text.size() > 1 && text[0] == '0') {
    base = 8;
  }
  if (text.empty()) return false;
  value = 0;
  for (const char c : text) {
    int digit = absl::ascii_isdigit(static_cast<unsigned char>(c)) ? c - '0' : 99;
    if (absl::ascii_isalpha(static_cast<unsigned char>(c))) {
      digit = absl::ascii_tolower(static_cast<unsigned char>(c)) - 'a' + 10;
    }
    if (digit >= base) return false;
    if (__builtin_mul_overflow(value, static_cast<uint64_t>(base), &value) ||
        __builtin_add_overflow(value, static_cast<uint64_t>(digit), &value)) {
      return false;
    }
  }
  return true;
}

bool ParseSigned(absl::string_view text, int64_t& value) {
  const bool negative = absl::ConsumePrefix(&text, "-");
  uint64_t magnitude;
  if (!ParseMagnitude(text, magnitude)) return false;
  if (magnitude > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return false;
  value = negative ? -static_cast<int64_t>(magnitude) : static_cast<int64_t>(magnitude);
  return true;
}

bool ParseBool(absl::string_view text, bool& value) {
  const std::string word = absl::AsciiStrToLower(text);
  if (word.empty()) return false;
  if (word == "1" || word == "on" || absl::StartsWith("true", word) ||
      absl::StartsWith("yes", word)) {
    value = true;
    return true;
  }
  // A lone "o" could be "on" as well.
  if (word == "0" || (word.size() > 1 && absl::StartsWith("off", word)) ||
      absl::StartsWith("false", word) || absl::StartsWith("no", word)) {
    value = false;
    return true;
  }
  return false;
}

bool ParseHexWord(absl::string_view text, uint64_t& value) {
  uint32_t word;
  if (text.empty() || text.size() > 8 || !absl::SimpleHexAtoi(text, &word)) return false;
  for (const char c : text) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return false;
  }
  value = word;
  return true;
}

// Takes between `min` and `max` digits from the front of `text`.
bool TakeDigits(absl::string_view& text, size_t min, size_t max, int& value) {
  size_t count = 0;
  value = 0;
  while (count < max && count < text.size() &&
         absl::ascii_isdigit(static_cast<unsigned char>(text[count]))) {
    value = value * 10 + (text[count++] - '0');
  }
  text.remove_prefix(count);
  return count >= min;
}

// "+ZZ", "+ZZ:ZZ", "+ZZZZ", "+ZZ:ZZ:ZZ" or nothing, to seconds east of UTC.
bool ParseZone(absl::string_view text, int& seconds) {
  seconds = 0;
  if (text.empty() || text == "Z") return true;
  const bool west = text[0] == '-';
  if (!west && text[0] != '+') return false;
  text.remove_prefix(1);
  int parts[3] = {};
  for (int i = 0; i < 3 && (i == 0 || !text.empty()); ++i) {
    if (i > 0) absl::ConsumePrefix(&text, ":");
    if (!TakeDigits(text, i == 0 ? 1 : 2, 2, parts[i])) return false;
  }
  if (!text.empty() || parts[0] > 24 || parts[1] > 59 || parts[2] > 59) return false;
  seconds = (parts[0] * 60 + parts[1]) * 60 + parts[2];
  if (west) seconds = -seconds;
  return true;
}

bool ParseTime(absl::string_view text, int64_t& value) {
  int f[6];
  constexpr char kAfter[6] = {'-', '-', ' ', ':', ':', 0};
  for (int i = 0; i < 6; ++i) {
    if (!TakeDigits(text, i == 0 ? 4 : 1, i == 0 ? 4 : 2, f[i])) return false;
    if (kAfter[i] != 0 && !absl::ConsumePrefix(&text, absl::string_view(&kAfter[i], 1)))
      return false;
  }
  const absl::CivilSecond civil(f[0], f[1], f[2], f[3], f[4], f[5]);
  // The constructor normalises February 30th; such a date was not written by a program.
  if (civil.month() != f[1] || civil.day() != f[2] || civil.hour() != f[3]) return false;
  int zone;
  if (!ParseZone(absl::StripAsciiWhitespace(text), zone)) return false;
  value = absl::ToUnixSeconds(absl::FromCivil(civil, absl::UTCTimeZone())) - zone;
  return true;
}

}  // namespace

bool ParseLsn(absl::string_view text, uint64_t& value) {
  const size_t slash = text.find('/');
  if (slash == absl::string_view::npos) return false;
  uint64_t high;
  uint64_t low;
  if (!ParseHexWord(text.substr(0, slash), high)) return false;
  if (!ParseHexWord(text.substr(slash + 1), low)) return false;
  value = high << 32 | low;
  return true;
}

absl::StatusOr<ControlFile> ControlFile::Parse(absl::string_view text) {
  if (text.size() > kMaxControlFileBytes) {
    return Malformed(absl::StrCat("the file has more than ", kMaxControlFileBytes, " bytes"));
  }
  if (text.find('\0') != absl::string_view::npos) return Malformed("the file has a NUL byte");
  ControlFile file;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    ControlSetting setting = ParseLine(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (setting.key.empty()) continue;
    setting.line = number;
    file.settings_.push_back(std::move(setting));
  }
  return file;
}

const ControlSetting* ControlFile::Find(absl::string_view key) const {
  for (auto setting = settings_.rbegin(); setting != settings_.rend(); ++setting) {
    if (setting->key == key) return &*setting;
  }
  return nullptr;
}

template <typename Value, typename Parser>
absl::Status ControlFile::Get(absl::string_view key, absl::string_view type, Value& value,
                              const Parser& parser) const {
  const ControlSetting* setting = Find(key);
  if (setting == nullptr) return absl::OkStatus();
  if (!setting->problem.empty()) {
    return Malformed(absl::StrCat("line ", setting->line, ", ", key, ": ", setting->problem));
  }
  if (!parser(setting->value, value)) {
    return Malformed(
        absl::StrCat("line ", setting->line, ", ", key, ": '", setting->value, "' is not ", type));
  }
  return absl::OkStatus();
}

absl::Status ControlFile::GetText(absl::string_view key, std::string& value) const {
  return Get(key, "a text", value, [](const std::string& text, std::string& out) {
    out = text;
    return true;
  });
}

absl::Status ControlFile::GetBool(absl::string_view key, bool& value) const {
  return Get(key, "true or false", value, ParseBool);
}

absl::Status ControlFile::GetUnsigned(absl::string_view key, uint64_t max, uint64_t& value) const {
  return Get(key, absl::StrCat("a number from 0 to ", max), value,
             [max](const std::string& text, uint64_t& out) {
               uint64_t number;
               if (!ParseMagnitude(text, number) || number > max) return false;
               out = number;
               return true;
             });
}

absl::Status ControlFile::GetUnsigned(absl::string_view key, uint32_t& value) const {
  uint64_t wide = value;
  const absl::Status status = GetUnsigned(key, std::numeric_limits<uint32_t>::max(), wide);
  value = static_cast<uint32_t>(wide);
  return status;
}

absl::Status ControlFile::GetSigned(absl::string_view key, int64_t& value) const {
  return Get(key, "a number", value, ParseSigned);
}

absl::Status ControlFile::GetLsn(absl::string_view key, uint64_t& value) const {
  return Get(key, "an LSN of the form X/Y", value, ParseLsn);
}

absl::Status ControlFile::GetTime(absl::string_view key, int64_t& value) const {
  return Get(key, "a time of the form YYYY-MM-DD HH:MM:SS+ZZ", value, ParseTime);
}

}  // namespace pbkfs
