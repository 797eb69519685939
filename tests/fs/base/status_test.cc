#include "fs/base/status.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace pbkfs {
namespace {

TEST(StatusTest, AnErrnoReachesTheApplicationUnchanged) {
  for (const int error : {ENOSPC, EDQUOT, EIO, ENOENT, ENOTEMPTY, EROFS, EFBIG, EBUSY}) {
    EXPECT_EQ(ErrnoOf(ErrnoError(error, "write")), error);
    EXPECT_EQ(ErrnoOf(Annotate(ErrnoError(error, "write"), "file x")), error);
  }
}

TEST(StatusTest, AStatusWithoutErrnoGetsOneThatFits) {
  EXPECT_EQ(ErrnoOf(absl::OkStatus()), 0);
  EXPECT_EQ(ErrnoOf(absl::DataLossError("page")), EIO);
  EXPECT_EQ(ErrnoOf(absl::NotFoundError("name")), ENOENT);
}

TEST(StatusTest, TheFirstReasonStays) {
  const absl::Status status =
      WithReason(ReasonError(absl::StatusCode::kNotFound, reason::kBackupNotFound, "no X"),
                 reason::kStoreNotFound);
  EXPECT_EQ(ReasonOf(status), "BACKUP_NOT_FOUND");
  EXPECT_EQ(ReasonOf(Annotate(status, "mount")), "BACKUP_NOT_FOUND");
  EXPECT_EQ(FieldOf(WithField(status, "backup_id")), "backup_id");
}

}  // namespace
}  // namespace pbkfs
