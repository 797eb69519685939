#include "fs/diff/page_cache_evidence.h"

#include <fcntl.h>
#include <sys/random.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "fs/base/directory_handle.h"
#include "fs/base/mutex.h"
#include "fs/diff/earlier_errors.h"

namespace pbkfs {
namespace {

// The first of these that is on tmpfs is used; a minimal container may have only the second.
constexpr const char* kEvidenceParents[] = {"/run", "/dev/shm"};
constexpr char kFailureSuffix[] = ".failed";
constexpr size_t kMaxDescriptionBytes = 8192;  // A path, and two numbers.

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
std::string FailureNameOf(uint64_t nonce) { return NameOf(nonce) + kFailureSuffix; }

// What the file says of the diff's directory.
struct Description {
  uint64_t device = 0;
  // Nothing of these where the file system has no handles.
  uint64_t mount_id = 0;
  std::string handle;
  std::string path;
};

std::string Describe(IoDir& directory, const DirIdentity& identity, const std::string& path) {
  const std::string handle = HandleOfDirectory(directory.descriptor());
  if (handle.empty() || path.empty()) return absl::StrCat(identity.device);
  return absl::StrCat(identity.device, " ", identity.mount_id, " ", absl::BytesToHexString(handle),
                      " ", path);
}

// Nothing where it can't be read, or is being written.
std::optional<Description> ReadDescription(IoDir& place, const std::string& name) {
  const auto file = place.OpenFile(name, O_RDONLY, 0);
  if (!file.ok()) return std::nullopt;
  std::string bytes(kMaxDescriptionBytes, '\0');
  const auto count =
      (*file)->Read(0, absl::MakeSpan(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()));
  bytes.resize(count.ok() ? *count : 0);
  const std::vector<std::string> parts = absl::StrSplit(bytes, absl::MaxSplits(' ', 3));
  Description description;
  if (!absl::SimpleAtoi(parts[0], &description.device)) return std::nullopt;
  uint64_t mount_id = 0;
  if (parts.size() == 4 && absl::SimpleAtoi(parts[1], &mount_id) && mount_id != 0 &&
      absl::StartsWith(parts[3], "/")) {
    description.mount_id = mount_id;
    description.handle = absl::HexStringToBytes(parts[2]);
    description.path = parts[3];
  }
  return description;
}

// Whether the directory that is described is known to be gone.
bool IsGone(Io& io, const Description& description) {
  // What is left of the path may still be on that mount.
  for (std::string path = description.path; !path.empty(); path.resize(path.rfind('/'))) {
    const auto directory = io.OpenDir(path);
    if (!directory.ok()) continue;
    const auto identity = (*directory)->Identity();
    return identity.ok() && identity->mount_id == description.mount_id &&
           DirectoryIsGone((*directory)->descriptor(), description.handle);
  }
  return false;
}

// Whether what is described may have to hear errors of the device: its diff is still where it was.
bool MayHaveToHear(Io& io, const Description& description, uint64_t device) {
  if (description.device != device) return false;
  if (description.path.empty()) return true;
  const auto directory = io.OpenDir(description.path);
  if (!directory.ok()) return false;
  const auto identity = (*directory)->Identity();
  return !identity.ok() || identity->mount_id == description.mount_id;
}

// Whether a diff on the device is open, or was when its process died.
bool HasEvidenceOf(Io& io, IoDir& place, uint64_t device) {
  const auto names = place.List();
  if (!names.ok()) return true;
  return std::any_of(names->begin(), names->end(), [&](const std::string& name) {
    if (absl::EndsWith(name, kFailureSuffix)) return false;
    const std::optional<Description> description = ReadDescription(place, name);
    return !description.has_value() || MayHaveToHear(io, *description, device);
  });
}

// What can be told without asking the kernel for write errors.
CacheState StateOf(IoDir* place, IoDir& directory, const PageCacheEvidence& evidence) {
  if (evidence.nonce == 0 || place == nullptr) return CacheState::kGone;
  const auto identity = directory.Identity();
  if (!identity.ok() || identity->mount_id != evidence.mount_id ||
      identity->device != evidence.device || identity->inode != evidence.inode) {
    return CacheState::kGone;
  }
  // Without its file the page cache may be there as well, and nobody knows what it shows.
  const bool stands = place->OpenFile(NameOf(evidence.nonce), O_RDONLY, 0).ok() &&
                      !place->OpenFile(FailureNameOf(evidence.nonce), O_RDONLY, 0).ok();
  return stands ? CacheState::kIntact : CacheState::kWriteFailed;
}

}  // namespace

uint64_t RandomNonce() {
  uint64_t nonce = 0;
  while (nonce == 0) {
    if (getrandom(&nonce, sizeof(nonce), 0) != sizeof(nonce)) nonce = 0;
  }
  return nonce;
}

PageCacheEvidence BeginEvidence(Io& io, IoDir& directory, const std::string& path) {
  PageCacheEvidence evidence;
  const auto identity = directory.Identity();
  const auto place = OpenEvidenceDirectory(io);
  if (!identity.ok() || identity->mount_id == 0 || place == nullptr) return evidence;
  // Nobody begins between the question and the evidence.
  static Mutex mutex;
  MutexLock lock(&mutex);
  if (!HasEvidenceOf(io, *place, identity->device)) HearEarlierErrors(directory);
  const uint64_t nonce = RandomNonce();
  const auto file = place->OpenFile(NameOf(nonce), O_CREAT | O_EXCL | O_WRONLY, 0600);
  if (!file.ok()) return evidence;
  // Without it the file is as good, but stays until it is no longer needed or the machine restarts.
  const std::string description = Describe(directory, *identity, path);
  const auto* bytes = reinterpret_cast<const uint8_t*>(description.data());
  (*file)->Write(0, absl::MakeConstSpan(bytes, description.size())).IgnoreError();
  evidence.nonce = nonce;
  evidence.mount_id = identity->mount_id;
  evidence.device = identity->device;
  evidence.inode = identity->inode;
  // A question without an answer yet may swallow an error of this session.
  if (ErrorsAreBeingHeard()) MarkFailed(io, evidence);
  return evidence;
}

void MarkFailed(Io& io, const PageCacheEvidence& evidence) {
  if (evidence.nonce == 0) return;
  const auto place = OpenEvidenceDirectory(io);
  if (place == nullptr) return;
  if (!place->OpenFile(FailureNameOf(evidence.nonce), O_CREAT | O_WRONLY, 0600).ok()) {
    place->Remove(NameOf(evidence.nonce)).IgnoreError();
  }
}

bool EvidenceStands(Io& io, IoDir& directory, const PageCacheEvidence& evidence) {
  const auto place = OpenEvidenceDirectory(io);
  return StateOf(place.get(), directory, evidence) == CacheState::kIntact;
}

CacheState CheckEvidence(Io& io, IoDir& directory, const PageCacheEvidence& evidence) {
  const auto place = OpenEvidenceDirectory(io);
  const CacheState state = StateOf(place.get(), directory, evidence);
  if (state != CacheState::kIntact || directory.SyncFileSystem().ok()) return state;
  MarkFailed(io, evidence);
  return CacheState::kWriteFailed;
}

void CollectEvidence(Io& io) {
  const auto place = OpenEvidenceDirectory(io);
  if (place == nullptr) return;
  const auto names = place->List();
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    const std::optional<Description> description = ReadDescription(*place, name);
    if (!description.has_value() || !IsGone(io, *description)) continue;
    place->Remove(name).IgnoreError();
    place->Remove(name + kFailureSuffix).IgnoreError();
  }
}

void RemoveEvidence(Io& io, const PageCacheEvidence& evidence) {
  if (evidence.nonce == 0) return;
  if (const auto place = OpenEvidenceDirectory(io)) {
    place->Remove(NameOf(evidence.nonce)).IgnoreError();
    place->Remove(FailureNameOf(evidence.nonce)).IgnoreError();
  }
}

}  // namespace pbkfs
