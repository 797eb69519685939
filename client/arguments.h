// The command line of pbkfs: which options each command takes, and how they become requests.
//
// Options may stand before and after the command, as `--name value` or `--name=value`.
#ifndef PBKFS_CLIENT_ARGUMENTS_H_
#define PBKFS_CLIENT_ARGUMENTS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "pbkfs/v1/catalog.pb.h"
#include "pbkfs/v1/daemon.pb.h"
#include "pbkfs/v1/diff_service.pb.h"
#include "pbkfs/v1/mount.pb.h"

namespace pbkfs::client {

// An option, as the parser and the shells' completion know it.
struct Option {
  absl::string_view name;  // Without "--".
  bool takes_value;
  absl::string_view commands;  // Separated by spaces; "" = all.
  // What a value can be: words separated by spaces, or one of the kinds of completion.h.
  absl::string_view values = "";
};

struct Command {
  absl::string_view name;
  size_t max_operands;
  absl::string_view operands = "";  // As Option.values.
};

absl::Span<const Option> Options();
absl::Span<const Command> Commands();
// nullptr where there is none.
const Option* FindOption(absl::string_view name);
bool FitsCommand(const Option& option, absl::string_view command);

struct Arguments {
  std::string command;                // "" = none was given; "diff list" is "diff-list".
  std::vector<std::string> operands;  // What follows the command.
  std::map<std::string, std::vector<std::string>> options;  // By name without "--"; flags have "".
  std::string address;                                      // As gRPC wants it.
  absl::Duration timeout = absl::ZeroDuration();            // 0 = the command's own.
  bool json = false;
  bool help = false;
  bool version = false;

  bool Has(const std::string& name) const { return options.count(name) > 0; }
  // The last value given, "" where none was.
  std::string Value(const std::string& name) const;
};

// `words` without the program's name. `environment_address` is PBKFS_ADDRESS, "" where it is not
// set. INVALID_ARGUMENT for what does not fit; the message says what would.
absl::StatusOr<Arguments> ParseArguments(const std::vector<std::string>& words,
                                         const std::string& environment_address);

// The command, or the group of commands, that wrong words are about, for a pointer to its help; ""
// = that of the program.
std::string TopicOf(const std::vector<std::string>& words);
// The command as it is typed.
std::string CommandTitle(absl::string_view command);
// The address as gRPC wants it: of the flag, else of the environment, else the default.
absl::StatusOr<std::string> AddressOf(const std::string& flag, const std::string& environment);

// Requests from the arguments of a command. Relative paths are taken from `directory`.
absl::StatusOr<v1::MountRequest> MountRequestOf(const Arguments& arguments,
                                                const std::string& directory);
absl::StatusOr<v1::UnmountRequest> UnmountRequestOf(const Arguments& arguments,
                                                    const std::string& directory);
absl::StatusOr<v1::ListBackupsRequest> ListBackupsRequestOf(const Arguments& arguments,
                                                            const std::string& directory);
absl::StatusOr<v1::StatsRequest> StatsRequestOf(const Arguments& arguments);
absl::StatusOr<v1::ListDiffsRequest> ListDiffsRequestOf(const Arguments& arguments,
                                                        const std::string& directory);
absl::StatusOr<v1::CheckDiffRequest> CheckDiffRequestOf(const Arguments& arguments,
                                                        const std::string& directory);
absl::StatusOr<v1::DeleteDiffRequest> DeleteDiffRequestOf(const Arguments& arguments,
                                                          const std::string& directory);
absl::StatusOr<v1::DebugDumpRequest> DebugDumpRequestOf(const Arguments& arguments);
absl::StatusOr<v1::SetLogLevelRequest> SetLogLevelRequestOf(const Arguments& arguments);

// "USER[:GROUP]" by name or number; without a group the user's own.
absl::StatusOr<v1::Owner> ParseOwner(absl::string_view text);
// Bytes: "4096", "10MiB", "10M", "1.5G"; a K is 1024.
absl::StatusOr<int64_t> ParseSize(absl::string_view text);
// "immediate", "latest", "time=…", "xid=…", "lsn=…" or "name=…".
absl::StatusOr<v1::Recovery> ParseRecoveryTarget(absl::string_view text);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_ARGUMENTS_H_
