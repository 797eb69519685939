#include "service/server_config.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fs/base/status.h"
#include "service/limits.h"

namespace pbkfs {
namespace {

bool IsNameByte(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '$' ||
         (static_cast<unsigned char>(c) & 0x80) != 0;
}

// The value that starts at `rest`: a quoted string with '' and backslash escapes, or a plain token.
bool ParseValue(absl::string_view rest, std::string* value) {
  value->clear();
  if (rest.empty() || rest[0] != '\'') {
    for (const char c : rest) {
      if (absl::ascii_isspace(static_cast<unsigned char>(c)) || c == '#' || c == '\'') break;
      *value += c;
    }
    return !value->empty();
  }
  for (size_t i = 1; i < rest.size(); ++i) {
    if (rest[i] == '\'') {
      if (i + 1 >= rest.size() || rest[i + 1] != '\'') return true;
      *value += rest[++i];
    } else if (rest[i] == '\\' && i + 1 < rest.size()) {
      // Only escapes that stand for themselves matter for the settings that are looked at.
      *value += rest[++i];
    } else {
      *value += rest[i];
    }
  }
  return false;  // The closing quote is missing.
}

// `path` as written in a file of the directory `base`, relative to PGDATA; "" where it leads
// outside.
std::string ResolveInclude(absl::string_view base, absl::string_view path) {
  if (path.empty() || path[0] == '/') return "";
  std::vector<absl::string_view> parts = absl::StrSplit(base, '/', absl::SkipEmpty());
  for (const absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (parts.empty()) {
      return "";
    } else {
      parts.pop_back();
    }
  }
  std::string joined;
  for (const absl::string_view part : parts)
    absl::StrAppend(&joined, joined.empty() ? "" : "/", part);
  return joined;
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

class Loader {
 public:
  Loader(const ConfigSource& source, ServerConfig* config) : source_(source), config_(config) {}

  // `found` may be null.
  absl::Status Load(const std::string& path, int depth, bool* found) {
    if (found != nullptr) *found = false;
    if (depth > kMaxConfigDepth || ++files_ > kMaxConfigFiles) return absl::OkStatus();
    absl::StatusOr<std::string> text = source_.read(path);
    if (absl::IsNotFound(text.status())) {
      if (depth > 0) config_->outside_includes.push_back(path);
      return absl::OkStatus();
    }
    PBKFS_RETURN_IF_ERROR(text.status());
    if (found != nullptr) *found = true;
    for (ConfigLine& line : ParseConfigFile(*text)) {
      PBKFS_RETURN_IF_ERROR(Take(path, depth, std::move(line)));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Take(const std::string& path, int depth, ConfigLine line) {
    const bool directory = line.name == "include_dir";
    if (!directory && line.name != "include" && line.name != "include_if_exists") {
      config_->settings[line.name] = ServerSetting{std::move(line.value), path};
      return absl::OkStatus();
    }
    const std::string inside = ResolveInclude(DirectoryOf(path), line.value);
    if (inside.empty()) {
      config_->outside_includes.push_back(line.value);
      return absl::OkStatus();
    }
    if (!directory) return Load(inside, depth + 1, nullptr);
    for (const std::string& name : source_.list(inside)) {
      if (!absl::EndsWith(name, ".conf") || absl::StartsWith(name, ".")) continue;
      PBKFS_RETURN_IF_ERROR(Load(absl::StrCat(inside, "/", name), depth + 1, nullptr));
    }
    return absl::OkStatus();
  }

  const ConfigSource& source_;
  ServerConfig* const config_;
  int files_ = 0;
};

}  // namespace

std::vector<ConfigLine> ParseConfigFile(absl::string_view text) {
  std::vector<ConfigLine> lines;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    size_t length = 0;
    while (length < line.size() && IsNameByte(line[length])) ++length;
    if (length == 0) continue;
    ConfigLine parsed;
    parsed.name = absl::AsciiStrToLower(line.substr(0, length));
    absl::string_view rest = absl::StripLeadingAsciiWhitespace(line.substr(length));
    if (absl::StartsWith(rest, "=")) rest = absl::StripLeadingAsciiWhitespace(rest.substr(1));
    if (ParseValue(rest, &parsed.value)) lines.push_back(std::move(parsed));
  }
  return lines;
}

std::string ServerConfig::Value(absl::string_view name) const {
  const auto it = settings.find(std::string(name));
  return it == settings.end() ? std::string() : it->second.value;
}

absl::StatusOr<ServerConfig> LoadServerConfig(const ConfigSource& source) {
  ServerConfig config;
  Loader loader(source, &config);
  PBKFS_RETURN_IF_ERROR(loader.Load("postgresql.conf", 0, &config.has_main_file));
  PBKFS_RETURN_IF_ERROR(loader.Load("postgresql.auto.conf", 0, &config.has_auto_file));
  return config;
}

}  // namespace pbkfs
