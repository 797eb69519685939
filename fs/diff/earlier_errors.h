// syncfs(2) tells whoever asks first of write errors that nobody was told yet: also those from
// before its descriptor was opened, and of other programs.
#ifndef PBKFS_FS_DIFF_EARLIER_ERRORS_H_
#define PBKFS_FS_DIFF_EARLIER_ERRORS_H_

#include "fs/base/io.h"

namespace pbkfs {

// Makes the kernel tell what it has to tell of the file system of `directory`. Waits a second at
// most: a disk may be busy with the writes of other programs, and a mount is to be there at once.
void HearEarlierErrors(IoDir& directory);

// Whether a question of this process has no answer yet: it may be told what happens until then.
bool ErrorsAreBeingHeard();

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_EARLIER_ERRORS_H_
