#include "service/grpc_status.h"

#include <optional>
#include <string>

#include "fs/base/status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"

namespace pbkfs {
namespace {

template <typename Detail>
std::optional<Detail> Find(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), static_cast<int>(status.error_code()));
  EXPECT_EQ(details.message(), status.error_message());
  for (const auto& any : details.details()) {
    Detail detail;
    if (any.Is<Detail>() && any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

TEST(GrpcStatus, EveryRowOfTheErrorTableKeepsItsCodeAndReason) {
  struct Row {
    absl::StatusCode code;
    grpc::StatusCode grpc_code;
    absl::string_view reason;
  };
  const Row rows[] = {
      {absl::StatusCode::kInvalidArgument, grpc::StatusCode::INVALID_ARGUMENT, "INVALID_FIELD"},
      {absl::StatusCode::kAlreadyExists, grpc::StatusCode::ALREADY_EXISTS, "MOUNT_INCOMPATIBLE"},
      {absl::StatusCode::kAborted, grpc::StatusCode::ABORTED, "OPERATION_PENDING"},
      {absl::StatusCode::kNotFound, grpc::StatusCode::NOT_FOUND, "BACKUP_NOT_FOUND"},
      {absl::StatusCode::kFailedPrecondition, grpc::StatusCode::FAILED_PRECONDITION,
       "CHAIN_INCOMPLETE"},
      {absl::StatusCode::kOutOfRange, grpc::StatusCode::OUT_OF_RANGE, "TARGET_UNREACHABLE"},
      {absl::StatusCode::kDataLoss, grpc::StatusCode::DATA_LOSS, "CATALOG_CORRUPT"},
      {absl::StatusCode::kUnimplemented, grpc::StatusCode::UNIMPLEMENTED, "UNSUPPORTED_FORMAT"},
      {absl::StatusCode::kResourceExhausted, grpc::StatusCode::RESOURCE_EXHAUSTED, "DIFF_SPACE"},
      {absl::StatusCode::kPermissionDenied, grpc::StatusCode::PERMISSION_DENIED,
       "PATH_NOT_ALLOWED"},
      {absl::StatusCode::kUnavailable, grpc::StatusCode::UNAVAILABLE, "DRAINING"},
  };
  for (const Row& row : rows) {
    const grpc::Status status = ToGrpcStatus(ReasonError(row.code, row.reason, "why"));
    EXPECT_EQ(status.error_code(), row.grpc_code);
    EXPECT_EQ(status.error_message(), "why");
    const auto info = Find<google::rpc::ErrorInfo>(status);
    ASSERT_TRUE(info.has_value()) << row.reason;
    EXPECT_EQ(info->reason(), row.reason);
    EXPECT_EQ(info->domain(), "pbkfs");
    EXPECT_EQ(Find<google::rpc::BadRequest>(status).has_value(),
              row.code == absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(Find<google::rpc::PreconditionFailure>(status).has_value(),
              row.code == absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(Find<google::rpc::RetryInfo>(status).has_value(),
              row.code == absl::StatusCode::kUnavailable);
  }
}

TEST(GrpcStatus, OkHasNoDetails) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).error_details().empty());
}

TEST(GrpcStatus, TheFieldIsNamed) {
  const grpc::Status status = ToGrpcStatus(WithField(
      ReasonError(absl::StatusCode::kInvalidArgument, reason::kInvalidField, "bad"), "target"));
  const auto bad_request = Find<google::rpc::BadRequest>(status);
  ASSERT_TRUE(bad_request.has_value());
  ASSERT_EQ(bad_request->field_violations_size(), 1);
  EXPECT_EQ(bad_request->field_violations(0).field(), "target");
}

TEST(GrpcStatus, BytesThatAreNotUtf8DoNotBreakTheDetails) {
  const grpc::Status status = ToGrpcStatus(absl::InternalError("path \xff\xfe here"));
  EXPECT_EQ(status.error_message(), "path ?? here");
  EXPECT_TRUE(Find<google::rpc::ErrorInfo>(status).has_value());
}

}  // namespace
}  // namespace pbkfs
