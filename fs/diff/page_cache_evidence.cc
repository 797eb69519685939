#include "fs/diff/page_cache_evidence.h"

#include <fcntl.h>
#include <sys/random.h>

#include <memory>
#include <string>

#include "absl/strings/str_format.h"

namespace pbkfs {
namespace {

// The first of these that is on tmpfs is used; a minimal container may have only the second.
constexpr const char* kEvidenceParents[] = {"/run", "/dev/shm"};

std::unique_ptr<IoDir> OpenEvidenceDirectory(Io& io) {
  for (const char* parent : kEvidenceParents) {
    const std::string path = std::string(parent) + "/pbkfs";
    io.MakeDir(path, 0700).IgnoreError();
    auto directory = io.OpenDir(path);
    if (!directory.ok()) continue;
    const auto identity = (*directory)->Identity();
    if (identity.ok() && identity->in_memory) return std::move(directory).value();
  }
  return nullptr;
}

std::string NameOf(uint64_t nonce) { return absl::StrFormat("diff-%016x", nonce); }
std::string FailureNameOf(uint64_t nonce) { return NameOf(nonce) + ".failed"; }

// What can be told without asking the kernel for write errors.
CacheState StateOf(IoDir* place, IoDir& directory, const PageCacheEvidence& evidence) {
  if (evidence.nonce == 0 || place == nullptr) return CacheState::kGone;
  const auto identity = directory.Identity();
  if (!identity.ok() || identity->mount_id != evidence.mount_id ||
      identity->device != evidence.device || identity->inode != evidence.inode) {
    return CacheState::kGone;
  }
  if (!place->OpenFile(NameOf(evidence.nonce), O_RDONLY, 0).ok()) return CacheState::kGone;
  return place->OpenFile(FailureNameOf(evidence.nonce), O_RDONLY, 0).ok() ? CacheState::kWriteFailed
                                                                          : CacheState::kIntact;
}

}  // namespace

uint64_t RandomNonce() {
  uint64_t nonce = 0;
  while (nonce == 0) {
    if (getrandom(&nonce, sizeof(nonce), 0) != sizeof(nonce)) nonce = 0;
  }
  return nonce;
}

PageCacheEvidence LeaveEvidence(Io& io, IoDir& directory) {
  PageCacheEvidence evidence;
  const auto identity = directory.Identity();
  const auto place = OpenEvidenceDirectory(io);
  if (!identity.ok() || identity->mount_id == 0 || place == nullptr) return evidence;
  const uint64_t nonce = RandomNonce();
  const auto file = place->OpenFile(NameOf(nonce), O_CREAT | O_EXCL | O_WRONLY, 0600);
  if (!file.ok()) return evidence;
  evidence.nonce = nonce;
  evidence.mount_id = identity->mount_id;
  evidence.device = identity->device;
  evidence.inode = identity->inode;
  return evidence;
}

bool EvidenceStands(Io& io, IoDir& directory, const PageCacheEvidence& evidence) {
  const auto place = OpenEvidenceDirectory(io);
  return StateOf(place.get(), directory, evidence) == CacheState::kIntact;
}

CacheState CheckEvidence(Io& io, IoDir& directory, const PageCacheEvidence& evidence) {
  const auto place = OpenEvidenceDirectory(io);
  const CacheState state = StateOf(place.get(), directory, evidence);
  if (state != CacheState::kIntact || directory.SyncFileSystem().ok()) return state;
  if (!place->OpenFile(FailureNameOf(evidence.nonce), O_CREAT | O_WRONLY, 0600).ok()) {
    place->Remove(NameOf(evidence.nonce)).IgnoreError();
  }
  return CacheState::kWriteFailed;
}

void RemoveEvidence(Io& io, const PageCacheEvidence& evidence) {
  if (evidence.nonce == 0) return;
  if (const auto place = OpenEvidenceDirectory(io)) {
    place->Remove(NameOf(evidence.nonce)).IgnoreError();
    place->Remove(FailureNameOf(evidence.nonce)).IgnoreError();
  }
}

}  // namespace pbkfs
