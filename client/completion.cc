#include "client/completion.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/arguments.h"
#include "client/table.h"

namespace pbkfs::client {
namespace {

constexpr char kBashScript[] =
    R"(# bash completion of pbkfs; for instance: source <(pbkfs completion bash)
_pbkfs() {
  local current="${COMP_WORDS[COMP_CWORD]}"
  local -a answer
  mapfile -t answer < <("$1" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  # After "--flag=" the word for readline is what follows.
  [[ $current == "=" ]] && current=
  case "${answer[0]}" in
    :directories)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -d -- "$current")
      ;;
    :users)
      mapfile -t COMPREPLY < <(compgen -u -- "$current")
      ;;
    *)
      COMPREPLY=("${answer[@]:1}")
      [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
      ;;
  esac
  return 0
}
complete -F _pbkfs pbkfs
)";

constexpr char kZshScript[] = R"(#compdef pbkfs
# zsh completion of pbkfs; for instance: source <(pbkfs completion zsh)
_pbkfs() {
  local -a answer
  answer=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  case "${answer[1]}" in
    :directories)
      [[ ${words[CURRENT]} == --*=* ]] && compset -P '*='
      _files -/
      ;;
    :users)
      [[ ${words[CURRENT]} == --*=* ]] && compset -P '*='
      _users
      ;;
    *)
      answer=("${(@)answer[2,-1]}")
      local -a whole=("${(@)answer:#*=}") open=("${(@M)answer:#*=}")
      if ((${#whole})); then compadd -- "${(@)whole}"; fi
      if ((${#open})); then compadd -S '' -- "${(@)open}"; fi
      ;;
  esac
}
if [[ "${funcstack[1]}" == "_pbkfs" ]]; then
  _pbkfs "$@"
else
  compdef _pbkfs pbkfs
fi
)";

// What stands before the word to complete, and the word.
struct Line {
  std::string command;  // "" = still to come; "diff" and "daemon" while the second word is.
  size_t operands = 0;
  GivenOptions given;
  std::string option;   // The word is the value of this option.
  std::string current;  // What has been typed of the word, or of the value.
  std::string prefix;   // "--name=", where the shell takes that and the value for one word.
};

// Joins what a shell split at "=". Sets `split` where the last word was.
std::vector<std::string> Join(const std::vector<std::string>& words, bool* split) {
  std::vector<std::string> joined;
  *split = false;
  bool open = false;  // The last word ends in the "=" of an option.
  for (const std::string& word : words) {
    *split = false;
    if (word == "=" && !joined.empty() && absl::StartsWith(joined.back(), "--") && !open) {
      joined.back() += word;
      open = *split = true;
    } else if (open) {
      joined.back() += word;
      open = false;
      *split = true;
    } else {
      joined.push_back(word);
    }
  }
  return joined;
}

bool IsGroup(const std::string& command) { return command == "diff" || command == "daemon"; }

// "--name=value" or "--name"; the short ones are for people who know them.
std::string OptionName(const std::string& word) {
  if (word == "-o") return "output";
  if (word == "-h") return "help";
  return std::string(absl::StripPrefix(word.substr(0, word.find('=')), "--"));
}

Line ReadLine(const std::vector<std::string>& words) {
  Line line;
  bool split = false;
  const std::vector<std::string> joined = Join(words, &split);
  for (size_t i = 0; i < joined.size(); ++i) {
    const std::string& word = joined[i];
    const bool last = i + 1 == joined.size();
    const size_t equals = word.find('=');
    const bool is_option = absl::StartsWith(word, "-") && word.size() > 1;
    const Option* option = is_option ? FindOption(OptionName(word)) : nullptr;
    if (last) {
      line.current = word;
      if (option != nullptr && equals != std::string::npos) {
        line.option = std::string(option->name);
        line.current = word.substr(equals + 1);
        if (!split) line.prefix = word.substr(0, equals + 1);
      }
    } else if (option != nullptr) {
      std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
      if (option->takes_value && equals == std::string::npos) {
        if (i + 2 == joined.size()) {
          line.option = std::string(option->name);
          line.current = joined.back();
          return line;
        }
        value = joined[++i];
      }
      line.given[std::string(option->name)] = value;
    } else if (is_option) {
      continue;
    } else if (line.command.empty() || IsGroup(line.command)) {
      absl::StrAppend(&line.command, line.command.empty() ? "" : "-", word);
    } else {
      ++line.operands;
    }
  }
  return line;
}

std::vector<std::string> CommandWords(const std::string& group) {
  std::vector<std::string> words;
  for (const Command& command : Commands()) {
    absl::string_view name = command.name;
    if (!group.empty() && !absl::ConsumePrefix(&name, absl::StrCat(group, "-"))) continue;
    for (const char* other : {"diff", "daemon"}) {
      if (group.empty() && absl::StartsWith(name, absl::StrCat(other, "-"))) name = other;
    }
    if (std::find(words.begin(), words.end(), name) == words.end()) words.emplace_back(name);
  }
  return words;
}

std::vector<std::string> Flags(const Line& line) {
  std::vector<std::string> flags;
  for (const Option& option : Options()) {
    const std::string name(option.name);
    if (!FitsCommand(option, line.command)) continue;
    if (line.command.empty() && !option.commands.empty()) continue;
    if (line.given.count(name) > 0 && name != "set") continue;
    flags.push_back(absl::StrCat("--", name));
  }
  return flags;
}

// What the word can be: words, or a kind.
absl::string_view ValuesFor(const Line& line) {
  if (!line.option.empty()) return FindOption(line.option)->values;
  for (const Command& command : Commands()) {
    if (command.name == line.command && line.operands < command.max_operands) {
      return command.operands;
    }
  }
  return "";
}

}  // namespace

std::string Complete(const std::vector<std::string>& words, const AskDaemon& ask) {
  const Line line = ReadLine(words);
  std::vector<std::string> candidates;
  if (line.option.empty() && absl::StartsWith(line.current, "-")) {
    candidates = Flags(line);
  } else if (line.option.empty() && (line.command.empty() || IsGroup(line.command))) {
    candidates = CommandWords(line.command);
  } else if (line.option.empty() && line.command == "help" && line.operands == 0) {
    candidates = CommandWords("");
  } else {
    const absl::string_view values = ValuesFor(line);
    // A diff or a mount can be named by its path, too.
    const bool is_path =
        absl::StrContains(line.current, '/') && (values == kMountKind || values == kDiffKind);
    if (values == kDirectoryKind || is_path) return ":directories\n";
    if (values == kUserKind) return ":users\n";
    if (absl::StartsWith(values, "<")) {
      candidates = ask(values, line.given);
    } else {
      candidates = absl::StrSplit(values, ' ', absl::SkipEmpty());
    }
  }
  std::string text = ":words\n";
  for (const std::string& candidate : candidates) {
    if (!absl::StartsWith(candidate, line.current)) continue;
    absl::StrAppend(&text, line.prefix, Printable(candidate), "\n");
  }
  return text;
}

absl::string_view CompletionScript(absl::string_view shell) {
  if (shell == "bash") return kBashScript;
  if (shell == "zsh") return kZshScript;
  return "";
}

}  // namespace pbkfs::client
