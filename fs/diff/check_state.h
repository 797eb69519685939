// The part of a check that looks at the state that a log tells: inodes, names, links, directories.
#ifndef PBKFS_FS_DIFF_CHECK_STATE_H_
#define PBKFS_FS_DIFF_CHECK_STATE_H_

#include "fs/base/lower_tree.h"
#include "fs/diff/check_findings.h"
#include "fs/diff/replay.h"

namespace pbkfs {

// Adds what contradicts itself. `image_known` = `lower` is the image of the diff; otherwise it
// knows what the log presumes (PresumedTree), and what only the image can tell is taken as given.
void CheckState(const DiffState& state, const LowerTree& lower, bool image_known,
                DiffFindings* findings);

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_CHECK_STATE_H_
