// How failures of calls are told: the exit code and the text.
#ifndef PBKFS_CLIENT_ERRORS_H_
#define PBKFS_CLIENT_ERRORS_H_

#include <string>

#include "absl/strings/string_view.h"

namespace pbkfs::client {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnreachable = 6;

// An error of the API, without gRPC's types. `code` is the canonical number.
struct CallError {
  int code = 0;
  std::string message;
  std::string details;  // Bytes of google.rpc.Status, from grpc-status-details-bin.
};

// 0 for OK; the table stands in the help text.
int ExitCodeOf(int code);
// ErrorInfo.reason, "" where there is none.
std::string ReasonOfDetails(const std::string& details);
// For a daemon that can't be reached: why, by what gRPC said, and how to reach one.
std::string UnreachableText(absl::string_view command, absl::string_view address,
                            absl::string_view why);
// "pbkfs: mount failed: …", the reason, and the next step where the message can't know it. Ends
// with a newline.
std::string ErrorText(absl::string_view command, const CallError& error, absl::string_view address);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_ERRORS_H_
