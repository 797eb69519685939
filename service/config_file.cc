#include "service/config_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fs/base/status.h"
#include "fs/base/unique_fd.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"
#include "service/config_check.h"
#include "service/limits.h"
#include "service/utf8.h"

namespace pbkfs {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::TextFormat;

absl::Status Wrong(absl::string_view message) {
  return ReasonError(absl::StatusCode::kInvalidArgument, reason::kInvalidField, message);
}

std::string FieldNames(const Descriptor& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.field_count(); ++i) names.push_back(message.field(i)->name());
  return absl::StrJoin(names, ", ");
}

// The values of the enum of the field with this name.
std::string EnumValues(const std::string& field) {
  std::vector<std::string> names;
  for (const Descriptor* message :
       {v1::MountDefaults::descriptor(), v1::MountRequest::descriptor()}) {
    const FieldDescriptor* descriptor = message->FindFieldByName(field);
    if (descriptor == nullptr || descriptor->enum_type() == nullptr) continue;
    // The first one is what is in force where nothing is said.
    for (int i = 1; i < descriptor->enum_type()->value_count(); ++i) {
      names.push_back(descriptor->enum_type()->value(i)->name());
    }
    break;
  }
  return absl::StrJoin(names, ", ");
}

// The text between the quotes that follow `before` in `message`; "" where it is not there.
std::string QuotedAfter(const std::string& message, absl::string_view before) {
  const size_t start = message.find(before.data(), 0, before.size());
  if (start == std::string::npos) return "";
  const size_t from = start + before.size();
  return message.substr(from, message.find('"', from) - from);
}

// A message of the parser, without the text that it found, and with what it could have found.
std::string Explain(const std::string& message) {
  const std::string type = QuotedAfter(message, "Message type \"");
  const std::string unknown = QuotedAfter(message, "has no field named \"");
  const Descriptor* descriptor = DescriptorPool::generated_pool()->FindMessageTypeByName(type);
  if (descriptor != nullptr && !unknown.empty()) {
    return absl::StrCat("unknown field '", unknown, "'; there are ", FieldNames(*descriptor));
  }
  const std::string enum_field = QuotedAfter(message, "for field \"");
  if (absl::StrContains(message, "nown enumeration value")) {
    return absl::StrCat("must be ", EnumValues(enum_field));
  }
  std::string text = message;
  for (const absl::string_view found : {", got: ", ", found \""}) {
    if (const size_t at = text.find(found.data(), 0, found.size()); at != std::string::npos)
      text.resize(at);
  }
  if (!text.empty()) text[0] = absl::ascii_tolower(static_cast<unsigned char>(text[0]));
  return text;
}

// The name before a value that begins at `column` of `line`, as in "max_mounts: x".
std::string FieldBefore(absl::string_view text, int line, int column) {
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  if (line < 0 || static_cast<size_t>(line) >= lines.size()) return "";
  absl::string_view before = lines[static_cast<size_t>(line)];
  before = before.substr(0, column < 0 ? 0 : static_cast<size_t>(column));
  before = absl::StripTrailingAsciiWhitespace(before);
  if (before.empty() || before.back() != ':') return "";
  before.remove_suffix(1);
  before = absl::StripTrailingAsciiWhitespace(before);
  const size_t end = before.size();
  size_t start = end;
  while (start > 0 && (absl::ascii_isalnum(static_cast<unsigned char>(before[start - 1])) ||
                       before[start - 1] == '_')) {
    --start;
  }
  return std::string(before.substr(start));
}

class Collector : public google::protobuf::io::ErrorCollector {
 public:
  Collector(absl::string_view text, absl::string_view name) : text_(text), name_(name) {}

  // Lines and columns are counted from 0; a line of -1 means the whole.
  void AddError(int line, int column, const std::string& message) override {
    const std::string field = FieldBefore(text_, line, column);
    Add(line, column, field, Explain(message));
  }
  void Add(int line, int column, absl::string_view field, absl::string_view message) {
    if (lines_.size() > kMaxConfigErrors) return;
    if (lines_.size() == kMaxConfigErrors) {
      lines_.push_back("there is more");
      return;
    }
    if (lines_.empty()) first_field_ = std::string(field);
    const std::string place = line < 0 ? "" : absl::StrCat(line + 1, ":", column + 1, ":");
    lines_.push_back(
        absl::StrCat(name_, ":", place, " ", field, field.empty() ? "" : ": ", message));
  }
  absl::Status status() const {
    if (lines_.empty()) return absl::OkStatus();
    return WithField(Wrong(ToUtf8(absl::StrJoin(lines_, "\n"))), first_field_);
  }

 private:
  const absl::string_view text_;
  const absl::string_view name_;
  std::vector<std::string> lines_;
  std::string first_field_;
};

// Where `field`, such as "mounts[2].target", is in the text; of a field that is not there, where
// the message begins that lacks it.
TextFormat::ParseLocation Locate(const Descriptor* message, TextFormat::ParseInfoTree* tree,
                                 absl::string_view field) {
  TextFormat::ParseLocation found;
  for (absl::string_view part : absl::StrSplit(field, '.')) {
    int index = -1;
    const size_t bracket = part.find('[');
    if (bracket != absl::string_view::npos) {
      if (!absl::SimpleAtoi(part.substr(bracket + 1, part.size() - bracket - 2), &index)) break;
      part = part.substr(0, bracket);
    }
    const FieldDescriptor* descriptor = message->FindFieldByName(std::string(part));
    if (descriptor == nullptr) break;
    if (descriptor->is_repeated() && index < 0) index = 0;
    const TextFormat::ParseLocation here = tree->GetLocation(descriptor, index);
    if (here.line < 0) break;
    found = here;
    if (descriptor->message_type() == nullptr || descriptor->is_map()) break;
    tree = tree->GetTreeForNested(descriptor, index);
    message = descriptor->message_type();
    if (tree == nullptr) break;
  }
  return found;
}

}  // namespace

absl::StatusOr<v1::DaemonConfig> ParseConfig(absl::string_view text, absl::string_view name) {
  Collector errors(text, name);
  TextFormat::ParseInfoTree tree;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  parser.WriteLocationsTo(&tree);
  v1::DaemonConfig config;
  if (!parser.ParseFromString(std::string(text), &config)) {
    PBKFS_RETURN_IF_ERROR(errors.status());
    return Wrong(absl::StrCat(name, ": is not in protobuf's text format"));
  }
  for (const ConfigProblem& problem : CheckConfig(config)) {
    const TextFormat::ParseLocation where =
        Locate(v1::DaemonConfig::descriptor(), &tree, problem.field);
    errors.Add(where.line, where.column, problem.field, problem.message);
  }
  PBKFS_RETURN_IF_ERROR(errors.status());
  return config;
}

absl::StatusOr<v1::DaemonConfig> ReadConfigFile(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd.valid()) return WithReason(ErrnoError(errno, path), reason::kInvalidField);
  std::string text(kMaxConfigBytes + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t count = read(fd.get(), text.data() + size, text.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoError(errno, path);
    if (count == 0) break;
    size += static_cast<size_t>(count);
  }
  if (size > kMaxConfigBytes) {
    return Wrong(absl::StrCat(path, ": is longer than ", kMaxConfigBytes, " bytes"));
  }
  text.resize(size);
  return ParseConfig(text, path);
}

}  // namespace pbkfs
