#include "client/errors.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/table.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace pbkfs::client {

int ExitCodeOf(int code) {
  switch (static_cast<absl::StatusCode>(code)) {
    case absl::StatusCode::kOk:
      return kExitDone;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return kExitUsage;
    case absl::StatusCode::kNotFound:
      return 3;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return 4;
    case absl::StatusCode::kFailedPrecondition:
      return 5;
    case absl::StatusCode::kUnavailable:
      return kExitUnreachable;
    case absl::StatusCode::kDataLoss:
      return 7;
    default:
      return kExitFailed;
  }
}

std::string ReasonOfDetails(const std::string& details) {
  google::rpc::Status status;
  if (!status.ParseFromString(details)) return "";
  for (const google::protobuf::Any& detail : status.details()) {
    google::rpc::ErrorInfo info;
    if (detail.Is<google::rpc::ErrorInfo>() && detail.UnpackTo(&info)) return info.reason();
  }
  return "";
}

std::string UnreachableText(absl::string_view command, absl::string_view address,
                            absl::string_view why) {
  const bool forbidden = absl::StrContains(why, "Permission denied");
  return absl::StrCat(
      "pbkfs: ", command, " failed: no daemon answers at ", address, " (", Printable(why),
      ")\nnext step: ",
      forbidden ? "run this as a user that may open the socket: root, or one of its group\n"
      : absl::StartsWith(address, "unix:")
          ? "start the daemon (systemctl start pbkfsd, or pbkfsd --allow-root DIR), or name "
            "the socket of the one that runs with --address or PBKFS_ADDRESS\n"
          : "is the daemon running, does its certificate name this host, and does its "
            "client_ca_file know who signed yours?\n");
}

std::string ErrorText(absl::string_view command, const CallError& error,
                      absl::string_view address) {
  const auto code = static_cast<absl::StatusCode>(error.code);
  const std::string reason = ReasonOfDetails(error.details);
  std::string text = absl::StrCat("pbkfs: ", command, " failed: ");
  if (code == absl::StatusCode::kUnavailable && reason.empty()) {
    return UnreachableText(command, address, error.message);
  }
  if (code == absl::StatusCode::kUnimplemented && reason.empty()) {
    absl::StrAppend(&text, "the daemon does not have this call; is it older than pbkfs?\n");
    return text;
  }
  if (code == absl::StatusCode::kDeadlineExceeded) {
    absl::StrAppend(&text,
                    "the daemon did not answer in time\nnext step: see its log, and what was "
                    "done with pbkfs list; --timeout SEC waits longer\n");
    return text;
  }
  absl::StrAppend(&text,
                  error.message.empty() ? absl::StatusCodeToString(code) : Printable(error.message),
                  "\n");
  if (!reason.empty()) absl::StrAppend(&text, "reason: ", Printable(reason), "\n");
  return text;
}

}  // namespace pbkfs::client
