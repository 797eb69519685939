#include "client/errors.h"

#include <string>

#include "absl/status/status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"

namespace pbkfs::client {
namespace {

CallError ErrorWith(absl::StatusCode code, const std::string& reason) {
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("pbkfs");
  google::rpc::Status details;
  details.add_details()->PackFrom(info);
  return CallError{static_cast<int>(code), "it went wrong", details.SerializeAsString()};
}

TEST(ExitCodes, FollowTheContract) {
  using absl::StatusCode;
  const std::pair<StatusCode, int> table[] = {
      {StatusCode::kOk, 0},
      {StatusCode::kUnimplemented, 1},
      {StatusCode::kResourceExhausted, 1},
      {StatusCode::kPermissionDenied, 1},
      {StatusCode::kInternal, 1},
      {StatusCode::kDeadlineExceeded, 1},
      {StatusCode::kUnknown, 1},
      {StatusCode::kInvalidArgument, 2},
      {StatusCode::kOutOfRange, 2},
      {StatusCode::kNotFound, 3},
      {StatusCode::kAlreadyExists, 4},
      {StatusCode::kAborted, 4},
      {StatusCode::kFailedPrecondition, 5},
      {StatusCode::kUnavailable, 6},
      {StatusCode::kDataLoss, 7},
  };
  for (const auto& [code, exit] : table) {
    EXPECT_EQ(ExitCodeOf(static_cast<int>(code)), exit) << absl::StatusCodeToString(code);
  }
}

TEST(ErrorText, SaysWhatFailedAndWhy) {
  EXPECT_EQ(
      ErrorText("mount", ErrorWith(absl::StatusCode::kNotFound, "STORE_NOT_FOUND"), "unix:/x"),
      "pbkfs: mount failed: it went wrong\nreason: STORE_NOT_FOUND\n");
}

TEST(ErrorText, AnUnreachableDaemonIsToldFromADrainingOne) {
  const CallError unreachable = {static_cast<int>(absl::StatusCode::kUnavailable), "refused", ""};
  const std::string text = ErrorText("list", unreachable, "unix:/x");
  EXPECT_NE(text.find("start the daemon"), std::string::npos) << text;
  EXPECT_NE(text.find("unix:/x"), std::string::npos) << text;
  const CallError forbidden = {unreachable.code, "unix:/x: Permission denied", ""};
  EXPECT_NE(ErrorText("list", forbidden, "unix:/x").find("may open the socket"), std::string::npos);
  const std::string draining =
      ErrorText("mount", ErrorWith(absl::StatusCode::kUnavailable, "DRAINING"), "unix:/x");
  EXPECT_NE(draining.find("reason: DRAINING"), std::string::npos) << draining;
}

TEST(ErrorText, DamagedDetailsAreNoReason) { EXPECT_EQ(ReasonOfDetails("\xff\xff garbage"), ""); }

}  // namespace
}  // namespace pbkfs::client
