// The records of the MetaLog: one record = one atomic operation. FORMAT.md has the byte tables;
// this header and records.cc are their only implementation.
//
// A record's payload is the sequence of its fields in the order of Fields(): little-endian
// integers, names as u16 length and bytes.
#ifndef PBKFS_FS_DIFF_RECORDS_H_
#define PBKFS_FS_DIFF_RECORDS_H_

#include <cstdint>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace pbkfs {

enum class RecordType : uint16_t {
  kOpen = 1,
  kCreate = 2,
  kLink = 3,
  kUnlink = 4,
  kRename = 5,
  kSetAttr = 6,
  kDataFile = 7,
  kPresent = 8,
  kSize = 9,
  kPunch = 10,
  kCut = 11,
  kSynced = 12,
  kFailed = 13,
  kReap = 14,
  kCleanUnmount = 15,
  kCheckpointBegin = 16,
  kInode = 17,
  kDirent = 18,
  kWhiteout = 19,
  kAnswer = 20,
  kCheckpointEnd = 21,
  kPresentRuns = 22,
};

// Which kernel request caused a record: a request that is sent again after a crash is found by it.
// `nonce` is drawn at random for each FUSE connection, `unique` is the kernel's number without its
// resend bit.
struct RequestId {
  uint64_t nonce = 0;
  uint64_t unique = 0;
  uint32_t opcode = 0;
  bool operator==(const RequestId&) const = default;
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(nonce)(unique)(opcode);
  }
};

// What has to be unchanged for the page cache to still hold what was written before a crash.
struct PageCacheEvidence {
  uint64_t nonce = 0;     // Names a file on tmpfs.
  uint64_t mount_id = 0;  // STATX_MNT_ID_UNIQUE of the diff.
  uint64_t device = 0;    // Of the diff's directory …
  uint64_t inode = 0;     // … and its inode number.
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(nonce)(mount_id)(device)(inode);
  }
};

// A new epoch begins: records that follow are sealed with `next_seed`, so that a tail of an older
// epoch never validates.
struct OpenRecord {
  static constexpr RecordType kType = RecordType::kOpen;
  uint64_t next_seed = 0;
  uint64_t session_nonce = 0;
  PageCacheEvidence evidence;
  int64_t time = 0;
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(next_seed)(session_nonce);
    evidence.Fields(archive);
    archive(time);
  }
};

// create, mkdir, mknod, symlink. The new inode has one name and no content.
struct CreateRecord {
  static constexpr RecordType kType = RecordType::kCreate;
  RequestId request;
  uint64_t ino = 0;
  uint64_t parent = 0;
  std::string name;
  uint32_t mode = 0;  // With the file type.
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t rdev = 0;
  std::string symlink;
  int64_t time = 0;  // Nanoseconds since the epoch, here and below.
  template <typename Archive>
  void Fields(Archive& archive) {
    request.Fields(archive);
    archive(ino)(parent)(name)(mode)(uid)(gid)(rdev)(symlink)(time);
  }
};

struct LinkRecord {
  static constexpr RecordType kType = RecordType::kLink;
  RequestId request;
  uint64_t ino = 0;
  uint64_t parent = 0;
  std::string name;
  int64_t time = 0;
  template <typename Archive>
  void Fields(Archive& archive) {
    request.Fields(archive);
    archive(ino)(parent)(name)(time);
  }
};

// unlink and rmdir.
struct UnlinkRecord {
  static constexpr RecordType kType = RecordType::kUnlink;
  RequestId request;
  uint64_t ino = 0;
  uint64_t parent = 0;
  std::string name;
  int64_t time = 0;
  template <typename Archive>
  void Fields(Archive& archive) {
    request.Fields(archive);
    archive(ino)(parent)(name)(time);
  }
};

struct RenameRecord {
  static constexpr RecordType kType = RecordType::kRename;
  RequestId request;
  uint64_t ino = 0;
  uint64_t parent = 0;
  std::string name;
  uint64_t new_parent = 0;
  std::string new_name;
  uint64_t replaced = 0;  // The inode that had the new name; 0 = none.
  int64_t time = 0;
  template <typename Archive>
  void Fields(Archive& archive) {
    request.Fields(archive);
    archive(ino)(parent)(name)(new_parent)(new_name)(replaced)(time);
  }
};

struct SetAttrRecord {
  static constexpr RecordType kType = RecordType::kSetAttr;
  enum Mask : uint32_t { kMode = 1, kUid = 2, kGid = 4, kAtime = 8, kMtime = 16 };
  uint64_t ino = 0;
  uint32_t mask = 0;
  uint32_t mode = 0;  // Permission bits.
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t atime = 0;
  int64_t mtime = 0;
  int64_t time = 0;  // The new ctime.
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(ino)(mask)(mode)(uid)(gid)(atime)(mtime)(time);
  }
};

// data/<ino> was made, empty.
struct DataFileRecord {
  static constexpr RecordType kType = RecordType::kDataFile;
  uint64_t ino = 0;
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(ino);
  }
};

// The blocks [first, first + count) are complete in the data file.
struct PresentRecord {
  static constexpr RecordType kType = RecordType::kPresent;
  uint64_t ino = 0;
  int64_t first = 0;
  int64_t count = 0;
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(ino)(first)(count);
  }
};

// An explicit change of size: nothing of the image shows at or past `lower_limit`, nothing of the
// data file at or past `size`.
struct SizeRecord {
  static constexpr RecordType kType = RecordType::kSize;
  uint64_t ino = 0;
  int64_t size = 0;
  int64_t lower_limit = 0;
  uint32_t shrinks = 0;  // 1 = bytes of the data file are destroyed, and a Cut follows.
  int64_t time = 0;
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(ino)(size)(lower_limit)(shrinks)(time);
  }
};

// The bytes [offset, offset + length) are zeros: whole blocks become present, edges were completed
// before.
struct PunchRecord {
  static constexpr RecordType kType = RecordType::kPunch;
  uint64_t ino = 0;
  int64_t offset = 0;
  int64_t length = 0;
  int64_t time = 0;
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(ino)(offset)(length)(time);
  }
};

// The destruction that record `sequence` (Size or Punch) announced is done in the data file.
struct CutRecord {
  static constexpr RecordType kType = RecordType::kCut;
  uint64_t ino = 0;
  uint64_t sequence = 0;
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(ino)(sequence);
  }
};

// The data file is durable with everything up to record `through`; the logical size was `size`
// then.
struct SyncedRecord {
  static constexpr RecordType kType = RecordType::kSynced;
  uint64_t ino = 0;
  uint64_t through = 0;
  int64_t size = 0;
  int64_t data_bytes = 0;  // The data file's own length then.
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(ino)(through)(size)(data_bytes);
  }
};

// A sync of the data file failed: nothing of it counts as durable past the last Synced.
struct FailedRecord {
  static constexpr RecordType kType = RecordType::kFailed;
  uint64_t ino = 0;
  int32_t error = 0;
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(ino)(error);
  }
};

// An orphan is gone: no name, no handle; its data file may be removed.
struct ReapRecord {
  static constexpr RecordType kType = RecordType::kReap;
  uint64_t ino = 0;
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(ino);
  }
};

// Everything before this record is durable, data files included.
struct CleanUnmountRecord {
  static constexpr RecordType kType = RecordType::kCleanUnmount;
  int64_t time = 0;
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(time);
  }
};

// A checkpoint: the state follows, up to CheckpointEnd, in records with sequence 0; then the
// records that were not yet confirmed, with their own sequences.
struct CheckpointBeginRecord {
  static constexpr RecordType kType = RecordType::kCheckpointBegin;
  uint64_t next_ino = 0;
  uint64_t next_sequence = 0;
  uint64_t session_nonce = 0;
  PageCacheEvidence evidence;
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(next_ino)(next_sequence)(session_nonce);
    evidence.Fields(archive);
  }
};

// The confirmed state of one inode; its blocks follow as Present records with sequence 0.
struct InodeRecord {
  static constexpr RecordType kType = RecordType::kInode;
  uint64_t ino = 0;
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t nlink = 0;
  uint64_t rdev = 0;
  int64_t atime = 0;
  int64_t mtime = 0;
  int64_t ctime = 0;
  std::string symlink;
  uint32_t has_data = 0;
  int64_t size = 0;
  int64_t lower_limit = 0;
  uint64_t synced_through = 0;
  uint64_t last_size = 0;  // Sequence of the last Size record.
  int64_t data_bytes = 0;  // The data file is at least so long.
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(ino)(mode)(uid)(gid)(nlink)(rdev)(atime)(mtime)(ctime)(symlink)(has_data)(size);
    archive(lower_limit)(synced_through)(last_size)(data_bytes);
  }
};

// In a checkpoint: blocks of an inode that are complete in its data file, as pairs of u32: blocks
// that are left out since the end of the run before (of this record; the first counts from block
// 0), and blocks of the run.
struct PresentRunsRecord {
  static constexpr RecordType kType = RecordType::kPresentRuns;
  uint64_t ino = 0;
  std::string runs;
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(ino)(runs);
  }
};

// A name that the diff added.
struct DirentRecord {
  static constexpr RecordType kType = RecordType::kDirent;
  uint64_t parent = 0;
  std::string name;
  uint64_t ino = 0;
  uint64_t cookie = 0;  // Its readdir offset, for good.
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(parent)(name)(ino)(cookie);
  }
};

// A name of the image that the diff removed.
struct WhiteoutRecord {
  static constexpr RecordType kType = RecordType::kWhiteout;
  uint64_t parent = 0;
  std::string name;
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(parent)(name);
  }
};

// A request of this session that may be sent again, and what it was answered.
struct AnswerRecord {
  static constexpr RecordType kType = RecordType::kAnswer;
  RequestId request;
  uint64_t ino = 0;
  uint64_t parent = 0;
  std::string name;
  uint64_t new_parent = 0;
  std::string new_name;
  template <typename Archive>
  void Fields(Archive& archive) {
    request.Fields(archive);
    archive(ino)(parent)(name)(new_parent)(new_name);
  }
};

// What a record about names says to the request that caused it.
inline AnswerRecord AnswerTo(const CreateRecord& record) {
  return {record.request, record.ino, record.parent, record.name, 0, ""};
}
inline AnswerRecord AnswerTo(const LinkRecord& record) {
  return {record.request, record.ino, record.parent, record.name, 0, ""};
}
inline AnswerRecord AnswerTo(const UnlinkRecord& record) {
  return {record.request, record.ino, record.parent, record.name, 0, ""};
}
inline AnswerRecord AnswerTo(const RenameRecord& record) {
  return {record.request, record.ino,        record.parent,
          record.name,    record.new_parent, record.new_name};
}

struct CheckpointEndRecord {
  static constexpr RecordType kType = RecordType::kCheckpointEnd;
  uint64_t state_records = 0;  // Records between Begin and End, for a check. An Open follows.
  template <typename Archive>
  void Fields(Archive& archive) {
    archive(state_records);
  }
};

using Record = std::variant<OpenRecord, CreateRecord, LinkRecord, UnlinkRecord, RenameRecord,
                            SetAttrRecord, DataFileRecord, PresentRecord, SizeRecord, PunchRecord,
                            CutRecord, SyncedRecord, FailedRecord, ReapRecord, CleanUnmountRecord,
                            CheckpointBeginRecord, InodeRecord, DirentRecord, WhiteoutRecord,
                            AnswerRecord, CheckpointEndRecord, PresentRunsRecord>;

// ---- framing ----

inline constexpr size_t kLogHeaderBytes = 64;
inline constexpr size_t kLogRecordHeaderBytes = 32;
inline constexpr uint32_t kLogFormatVersion = 1;

struct LogHeader {
  uint64_t seed = 0;        // Of the first epoch.
  uint64_t generation = 0;  // Counts the checkpoints of the diff.
};

std::string EncodeLogHeader(const LogHeader& header);
// DATA_LOSS for damage, UNIMPLEMENTED for a newer version.
absl::StatusOr<LogHeader> DecodeLogHeader(absl::Span<const uint8_t> bytes);

// The bytes of a record, padded to a multiple of 8.
std::string EncodeRecord(const Record& record, uint64_t sequence, uint64_t durable_to,
                         uint64_t seed);

struct DecodedRecord {
  Record record;
  uint64_t sequence = 0;
  uint64_t durable_to = 0;
  size_t bytes = 0;  // With padding.
};

// Decodes the record at the beginning of `bytes`. NOT_FOUND where `bytes` begins with zeros or is
// empty (the end of a log), DATA_LOSS where it is not a whole valid record of the epoch `seed`.
absl::StatusOr<DecodedRecord> DecodeRecord(absl::Span<const uint8_t> bytes, uint64_t seed);

}  // namespace pbkfs

#endif  // PBKFS_FS_DIFF_RECORDS_H_
