// What the diff commands print as tables.
#ifndef PBKFS_CLIENT_DIFF_OUTPUT_H_
#define PBKFS_CLIENT_DIFF_OUTPUT_H_

#include <string>

#include "pbkfs/v1/diff_service.pb.h"

namespace pbkfs::client {

std::string ListDiffsText(const v1::ListDiffsResponse& response);
std::string CheckDiffText(const v1::CheckDiffResponse& response);
std::string DeleteDiffText(const v1::DeleteDiffResponse& response);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_DIFF_OUTPUT_H_
