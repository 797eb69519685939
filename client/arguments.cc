#include "client/arguments.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/status_macros.h"

namespace pbkfs::client {
namespace {

constexpr char kDefaultAddress[] = "unix:/run/pbkfs/pbkfsd.sock";

struct Option {
  absl::string_view name;
  bool takes_value;
  absl::string_view commands;  // Separated by spaces; "" = all.
};

constexpr Option kOptions[] = {
    {"address", true, ""},
    {"tls-ca", true, ""},
    {"tls-cert", true, ""},
    {"tls-key", true, ""},
    {"output", true, ""},
    {"help", false, ""},
    {"version", false, ""},
    {"store", true, "mount backups diff-check"},
    {"instance", true, "mount backups diff-check"},
    {"backup", true, "mount"},
    {"target", true, "mount"},
    {"diff", true, "mount"},
    {"id", true, "mount"},
    {"owner", true, "mount"},
    {"read-only", false, "mount"},
    {"materialize-on-read", false, "mount"},
    {"ephemeral", false, "mount"},
    {"force", false, "mount unmount"},
    {"catalog-lock", true, "mount"},
    {"tablespaces", true, "mount"},
    {"recovery-target", true, "mount"},
    {"recovery-timeline", true, "mount"},
    {"recovery-action", true, "mount"},
    {"set", true, "mount"},
    {"default-config", false, "mount"},
    {"allow-tablespace-wal", false, "mount"},
    {"dry-run", false, "mount"},
    {"wait", true, "unmount"},
    {"delete-diff", false, "unmount"},
    {"watch", false, "stats"},
    {"reset", false, "stats"},
    {"dir", true, "diff-list"},
    {"repair", false, "diff-check"},
    {"missing-ok", false, "diff-delete"},
};

struct Command {
  absl::string_view name;
  size_t max_operands;
};
constexpr Command kCommands[] = {{"mount", 0},      {"unmount", 1},    {"list", 0},
                                 {"stats", 1},      {"backups", 0},    {"diff-list", 0},
                                 {"diff-check", 1}, {"diff-delete", 1}};

absl::Status Usage(absl::string_view message) { return absl::InvalidArgumentError(message); }

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

absl::Status CheckCommand(const Arguments& arguments) {
  const Command* command = nullptr;
  for (const Command& known : kCommands) {
    if (known.name == arguments.command) command = &known;
  }
  if (command == nullptr) {
    return Usage(absl::StrCat("unknown command '", CommandTitle(arguments.command),
                              "'; there are mount, unmount, list, stats, backups and diff"));
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
  if (arguments->command != "diff" || arguments->help) return absl::OkStatus();
  if (arguments->operands.empty()) return Usage("diff needs list, check or delete");
  const std::string verb = arguments->operands.front();
  arguments->operands.erase(arguments->operands.begin());
  arguments->command = absl::StrCat("diff-", verb);
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
  std::string address = arguments->Value("address");
  if (address.empty()) address = environment_address;
  if (address.empty()) address = kDefaultAddress;
  CLIENT_ASSIGN_OR_RETURN(arguments->address, NormalAddress(address));
  const std::string output = arguments->Value("output");
  if (!output.empty() && output != "table" && output != "json") {
    return Usage(absl::StrCat("-o ", output, ": use table or json"));
  }
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

std::string CommandTitle(absl::string_view command) {
  return absl::StrReplaceAll(command, {{"diff-", "diff "}});
}

std::string Arguments::Value(const std::string& name) const {
  const auto it = options.find(name);
  return it == options.end() ? std::string() : it->second.back();
}

absl::StatusOr<Arguments> ParseArguments(const std::vector<std::string>& words,
                                         const std::string& environment_address) {
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
        return Usage(absl::StrCat("unknown option ", word));
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
    if (option == nullptr) return Usage(absl::StrCat("unknown option ", word));
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
  if (arguments.help && arguments.command == "diff") return arguments;
  if (!arguments.command.empty()) CLIENT_RETURN_IF_ERROR(CheckCommand(arguments));
  return arguments;
}

}  // namespace pbkfs::client
