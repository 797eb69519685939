#include "client/arguments.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "client/status_macros.h"
#include "client/suggestion.h"
#include "client/table.h"

namespace pbkfs::client {
namespace {

constexpr char kDefaultAddress[] = "unix:/run/pbkfs/pbkfsd.sock";
// A year, far below what overflows.
constexpr double kMaxTimeoutSeconds = 365.0 * 24 * 3600;

constexpr Option kOptions[] = {
    {"address", true, ""},
    {"tls-ca", true, "", "<file>"},
    {"tls-cert", true, "", "<file>"},
    {"tls-key", true, "", "<file>"},
    {"output", true, "", "table json"},
    {"timeout", true, ""},
    {"help", false, ""},
    {"version", false, ""},
    {"store", true, "mount backups diff-check", "<directory>"},
    {"instance", true, "mount backups diff-check", "<instance>"},
    {"backup", true, "mount", "<backup>"},
    {"target", true, "mount", "<directory>"},
    {"diff", true, "mount", "<directory>"},
    {"id", true, "mount"},
    {"owner", true, "mount", "<user>"},
    {"read-only", false, "mount"},
    {"materialize-on-read", false, "mount"},
    {"ephemeral", false, "mount"},
    {"restore", false, "mount"},
    {"diff-limit", true, "mount"},
    {"threads", true, "mount"},
    {"force", false, "mount unmount"},
    {"catalog-lock", true, "mount", "auto required off"},
    {"tablespaces", true, "mount", "directory symlink"},
    {"recovery-target", true, "mount", "immediate latest time= xid= lsn= name="},
    {"recovery-timeline", true, "mount", "current latest"},
    {"recovery-exclusive", false, "mount"},
    {"recovery-action", true, "mount", "promote pause shutdown"},
    {"set", true, "mount"},
    {"default-config", false, "mount"},
    {"allow-tablespace-wal", false, "mount"},
    {"dry-run", false, "mount"},
    {"wait", true, "unmount"},
    {"delete-diff", false, "unmount"},
    {"watch", false, "stats"},
    {"reset", false, "stats"},
    {"dir", true, "diff-list", "<directory>"},
    {"repair", false, "diff-check"},
    {"missing-ok", false, "diff-delete"},
    {"lines", true, "daemon-dump"},
};

constexpr Command kCommands[] = {
    {"mount", 0},
    {"unmount", 1, "<mount>"},
    {"list", 0},
    {"stats", 1, "<mount>"},
    {"backups", 0},
    {"diff-list", 0},
    {"diff-check", 1, "<diff>"},
    {"diff-delete", 1, "<diff>"},
    {"daemon-status", 0},
    {"daemon-reload", 0},
    {"daemon-upgrade", 0},
    {"daemon-dump", 0},
    {"daemon-log-level", 1, "trace debug info warn error"},
    {"completion", 1, "bash zsh"},
    {"help", 2},
};

// Commands of two words begin with one of these.
constexpr absl::string_view kGroups[] = {"diff", "daemon"};

bool IsGroup(absl::string_view word) {
  return std::find(std::begin(kGroups), std::end(kGroups), word) != std::end(kGroups);
}

absl::Status Usage(absl::string_view message) { return absl::InvalidArgumentError(message); }

// "; did you mean 'x'?", or nothing.
std::string DidYouMean(absl::string_view word, const std::vector<std::string>& known,
                       absl::string_view prefix = "") {
  const std::string nearest = Nearest(word, known);
  return nearest.empty() ? std::string() : absl::StrCat("; did you mean '", prefix, nearest, "'?");
}

absl::Status UnknownOption(const std::string& word, absl::string_view command) {
  std::vector<std::string> known;
  for (const Option& option : kOptions) {
    if (FitsCommand(option, command)) known.emplace_back(option.name);
  }
  const std::string name = word.substr(0, word.find('='));
  return Usage(absl::StrCat("unknown option ", name,
                            DidYouMean(absl::StripPrefix(name, "--"), known, "--")));
}

absl::Status UnknownCommand(const std::string& command) {
  std::vector<std::string> known(std::begin(kGroups), std::end(kGroups));
  for (const Command& each : kCommands) known.push_back(CommandTitle(each.name));
  const std::string title = CommandTitle(command);
  return Usage(absl::StrCat("unknown command '", title, "'", DidYouMean(title, known)));
}

absl::Status CheckCommand(const Arguments& arguments) {
  const Command* command = nullptr;
  for (const Command& known : kCommands) {
    if (known.name == arguments.command) command = &known;
  }
  if (command == nullptr) {
    return UnknownCommand(arguments.command);
  }
  if (arguments.operands.size() > command->max_operands) {
    return Usage(absl::StrCat(CommandTitle(arguments.command), ": unexpected argument '",
                              arguments.operands[command->max_operands], "'"));
  }
  for (const auto& [name, values] : arguments.options) {
    if (!FitsCommand(*FindOption(name), arguments.command)) {
      return Usage(absl::StrCat(CommandTitle(arguments.command), " does not take --", name));
    }
  }
  return absl::OkStatus();
}

// "diff list" is the command diff-list.
absl::Status JoinCommandWords(Arguments* arguments) {
  if (arguments->command == "help") {
    // "help diff list" is "diff list --help".
    arguments->help = true;
    arguments->command = absl::StrJoin(arguments->operands, "-");
    arguments->operands.clear();
    return absl::OkStatus();
  }
  if (!IsGroup(arguments->command)) return absl::OkStatus();
  if (arguments->operands.empty()) {
    if (arguments->help) return absl::OkStatus();
    std::vector<absl::string_view> verbs;
    for (const Command& command : kCommands) {
      absl::string_view verb = command.name;
      if (absl::ConsumePrefix(&verb, absl::StrCat(arguments->command, "-"))) verbs.push_back(verb);
    }
    return Usage(absl::StrCat(arguments->command, " needs one of ", absl::StrJoin(verbs, ", ")));
  }
  const std::string verb = arguments->operands.front();
  arguments->operands.erase(arguments->operands.begin());
  absl::StrAppend(&arguments->command, "-", verb);
  return absl::OkStatus();
}

absl::StatusOr<std::string> NormalAddress(const std::string& address) {
  if (absl::StartsWith(address, "/")) return absl::StrCat("unix:", address);
  if (absl::StartsWith(address, "unix:") && address.size() > 5) return address;
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon != std::string::npos && colon != 0 &&
      absl::SimpleAtoi(address.substr(colon + 1), &port) && port > 0 && port <= 65535) {
    return address;
  }
  return Usage(absl::StrCat("address '", address, "': use unix:PATH or HOST:PORT"));
}

absl::Status TakeGlobals(const std::string& environment_address, Arguments* arguments) {
  CLIENT_ASSIGN_OR_RETURN(arguments->address,
                          AddressOf(arguments->Value("address"), environment_address));
  const std::string output = arguments->Value("output");
  if (!output.empty() && output != "table" && output != "json") {
    return Usage(absl::StrCat("-o ", output, ": use table or json"));
  }
  double seconds = 0;
  if (arguments->Has("timeout") && (!absl::SimpleAtod(arguments->Value("timeout"), &seconds) ||
                                    !(seconds > 0) || seconds > kMaxTimeoutSeconds)) {
    return Usage(absl::StrCat("--timeout ", arguments->Value("timeout"),
                              ": use a number of seconds above 0"));
  }
  arguments->timeout = absl::Seconds(seconds);
  arguments->json = output == "json";
  arguments->help = arguments->Has("help");
  arguments->version = arguments->Has("version");
  return absl::OkStatus();
}

// Splits "--name=value", "-ojson" and "-o=json" into name and value.
bool SplitWord(const std::string& word, std::string* name, std::string* value) {
  value->clear();
  if (absl::StartsWith(word, "-o") && !absl::StartsWith(word, "--")) {
    *name = "output";
    const size_t start = word.size() > 2 && word[2] == '=' ? 3 : 2;
    *value = word.substr(start);
    return word.size() > 2;
  }
  if (word == "-h") {
    *name = "help";
    return false;
  }
  const size_t equals = word.find('=');
  *name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
  if (equals == std::string::npos) return false;
  *value = word.substr(equals + 1);
  return true;
}

bool LooksLikeOption(const std::string& word) {
  return absl::StartsWith(word, "--") || absl::StartsWith(word, "-o") || word == "-h";
}

}  // namespace

absl::Span<const Option> Options() { return kOptions; }
absl::Span<const Command> Commands() { return kCommands; }

const Option* FindOption(absl::string_view name) {
  for (const Option& option : kOptions) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

bool FitsCommand(const Option& option, absl::string_view command) {
  return option.commands.empty() || command.empty() ||
         absl::StrContains(absl::StrCat(" ", option.commands, " "),
                           absl::StrCat(" ", command, " "));
}

std::string CommandTitle(absl::string_view command) {
  return absl::StrReplaceAll(command, {{"diff-", "diff "}, {"daemon-", "daemon "}});
}

absl::StatusOr<std::string> AddressOf(const std::string& flag, const std::string& environment) {
  if (!flag.empty()) return NormalAddress(flag);
  return NormalAddress(environment.empty() ? kDefaultAddress : environment);
}

std::string TopicOf(const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    const bool known = std::any_of(std::begin(kCommands), std::end(kCommands),
                                   [&](const Command& command) { return command.name == word; });
    if (word != "help" && (known || IsGroup(word))) return word;
  }
  return "";
}

std::string Arguments::Value(const std::string& name) const {
  const auto it = options.find(name);
  return it == options.end() ? std::string() : it->second.back();
}

absl::StatusOr<Arguments> ParseArguments(const std::vector<std::string>& words,
                                         const std::string& environment_address) {
  // Messages of the API hold nothing else.
  for (const std::string& word : words) {
    if (!IsUtf8(word)) return Usage(absl::StrCat(absl::CHexEscape(word), ": is not UTF-8"));
  }
  Arguments arguments;
  bool only_operands = false;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!only_operands && word == "--") {
      only_operands = true;
      continue;
    }
    if (only_operands || !LooksLikeOption(word)) {
      if (!only_operands && word.size() > 1 && word[0] == '-') {
        return UnknownOption(word, arguments.command);
      }
      if (arguments.command.empty()) {
        arguments.command = word;
      } else {
        arguments.operands.push_back(word);
      }
      continue;
    }
    std::string name;
    std::string value;
    const bool has_value = SplitWord(word, &name, &value);
    const Option* option = FindOption(name);
    if (option == nullptr) return UnknownOption(word, arguments.command);
    if (option->takes_value && !has_value) {
      if (i + 1 >= words.size()) return Usage(absl::StrCat(word, " needs a value"));
      value = words[++i];
    } else if (!option->takes_value && has_value) {
      return Usage(absl::StrCat("--", name, " takes no value"));
    }
    arguments.options[name].push_back(value);
  }
  CLIENT_RETURN_IF_ERROR(TakeGlobals(environment_address, &arguments));
  CLIENT_RETURN_IF_ERROR(JoinCommandWords(&arguments));
  if (arguments.help && IsGroup(arguments.command)) return arguments;
  if (!arguments.command.empty()) CLIENT_RETURN_IF_ERROR(CheckCommand(arguments));
  return arguments;
}

}  // namespace pbkfs::client
