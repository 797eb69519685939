// Completion in shells. The script that a shell loads is small and knows nothing: at each TAB it
// runs `pbkfs __complete WORD...`, which prints what this file works out.
#ifndef PBKFS_CLIENT_COMPLETION_H_
#define PBKFS_CLIENT_COMPLETION_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace pbkfs::client {

// Kinds of values, in place of words, in Option.values and Command.operands. Those of the first
// group the shell knows, the others only the daemon.
inline constexpr absl::string_view kDirectoryKind = "<directory>";
inline constexpr absl::string_view kUserKind = "<user>";
inline constexpr absl::string_view kMountKind = "<mount>";
inline constexpr absl::string_view kDiffKind = "<diff>";
inline constexpr absl::string_view kInstanceKind = "<instance>";
inline constexpr absl::string_view kBackupKind = "<backup>";

// Options that were given before the word, by name without "--"; the last value of each.
using GivenOptions = std::map<std::string, std::string>;
// The values of a kind that the daemon knows; none where it does not answer.
using AskDaemon =
    std::function<std::vector<std::string>(absl::string_view kind, const GivenOptions& given)>;

// `words` are those after the program's name up to the one to complete, which is the last. A shell
// that splits words at "=" may do so. The answer's first line is ":words", ":directories" (those of
// the shell) or ":users"; the candidates follow, one a line.
std::string Complete(const std::vector<std::string>& words, const AskDaemon& ask);

// The script for "bash" or "zsh"; "" for others.
absl::string_view CompletionScript(absl::string_view shell);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_COMPLETION_H_
