// What the diff commands print.
#ifndef PBKFS_CLIENT_DIFF_OUTPUT_H_
#define PBKFS_CLIENT_DIFF_OUTPUT_H_

#include <string>

#include "client/table.h"
#include "pbkfs/v1/diff_service.pb.h"

namespace pbkfs::client {

std::string ListDiffsText(const v1::ListDiffsResponse& response,
                          const Palette& palette = Palette());
std::string CheckDiffText(const v1::CheckDiffResponse& response,
                          const Palette& palette = Palette());
std::string DeleteDiffText(const v1::DeleteDiffResponse& response);

// What to do after a check, as one line without "next step: "; "" = nothing, or the error says it.
std::string CheckDiffNextStep(const v1::CheckDiffResponse& response);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_DIFF_OUTPUT_H_
