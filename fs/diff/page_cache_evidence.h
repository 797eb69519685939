// Evidence that the page cache still holds what an earlier process wrote into a diff: a file with a
// random name on a tmpfs of this machine, made when the diff was opened, together with the identity
// of the diff's directory. A reboot, a new mount of the diff's file system, a copied diff or a
// container with another /run leaves no such evidence, and recovery then assumes that everything
// that was not synced is lost.
#ifndef PBKFS_FS_DIFF_PAGE_CACHE_EVIDENCE_H_
#define PBKFS_FS_DIFF_PAGE_CACHE_EVIDENCE_H_

#include <string>

#include "fs/base/io.h"
#include "fs/diff/records.h"

namespace pbkfs {

// Leaves evidence for `directory`, the diff's, at `path`. A nonce of 0 where there is no tmpfs to
// leave it on. The file names the directory, for CollectEvidence.
//
// Write errors of the file system from before, whosever they are, are heard first, so that none is
// taken for the session's: unless another diff of the file system is open, or was when its process
// died, which may have to hear them itself. The evidence is marked as failed from the start where
// the disk is too busy to tell in time.
PageCacheEvidence BeginEvidence(Io& io, IoDir& directory, const std::string& path);

enum class CacheState {
  kIntact,       // It holds all that was written, and all of it reached the disk.
  kWriteFailed,  // It is that of the earlier open, but shows bytes that are not on the disk.
  kGone,
};

// What became of the page cache since an earlier open. A failed write is told by the kernel once;
// it is kept with the evidence, so that a recovery that is cut short finds it again.
CacheState CheckEvidence(Io& io, IoDir& directory, const PageCacheEvidence& evidence);
// Whether it is intact as far as can be told without asking the kernel for write errors: it tells
// each of them once, and the mount has to hear it.
bool EvidenceStands(Io& io, IoDir& directory, const PageCacheEvidence& evidence);

// The next open takes the page cache for one that shows bytes which are not on the disk.
void MarkFailed(Io& io, const PageCacheEvidence& evidence);

// Removes the file of the evidence, after a clean unmount or when newer evidence was left.
void RemoveEvidence(Io& io, const PageCacheEvidence& evidence);

// Removes what processes that were killed left for diffs that are gone since. A diff that was moved
// keeps its evidence, and so does one whose file system is not mounted here as it was.
void CollectEvidence(Io& io);

// A random number that is not 0, from the kernel.
uint64_t RandomNonce();

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_PAGE_CACHE_EVIDENCE_H_
