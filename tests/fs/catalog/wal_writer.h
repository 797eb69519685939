// Writes WAL for tests: records over pages and segments, as PostgreSQL lays them out.
#ifndef PBKFS_TESTS_FS_CATALOG_WAL_WRITER_H_
#define PBKFS_TESTS_FS_CATALOG_WAL_WRITER_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "fs/base/bytes.h"
#include "fs/base/crc32c.h"
#include "fs/catalog/wal_reader.h"

namespace pbkfs {

class WalWriter final : public WalSource {
 public:
  static constexpr uint32_t kSegmentBytes = 1 << 20;
  static constexpr uint32_t kPageBytes = 8192;
  static constexpr uint64_t kSystem = 0x1122334455667788;

  explicit WalWriter(Lsn begin = 3 * kSegmentBytes) : next_(begin) {}

  // Returns where the record begins.
  Lsn Append(uint8_t manager, uint8_t info, const std::string& payload, uint32_t xid = 0) {
    std::string record(24, '\0');
    StoreLittleEndian<uint32_t>(static_cast<uint32_t>(24 + payload.size()), record.data());
    StoreLittleEndian<uint32_t>(xid, record.data() + 4);
    StoreLittleEndian<uint64_t>(previous_, record.data() + 8);
    record[16] = static_cast<char>(info);
    record[17] = static_cast<char>(manager);
    const uint32_t crc = Crc32c(Crc32c(payload.data(), payload.size()), record.data(), 20);
    StoreLittleEndian<uint32_t>(crc, record.data() + 20);
    record += payload;

    if (next_ % kPageBytes == 0) StartPage(0);
    const Lsn begin = next_;
    previous_ = begin;
    for (size_t done = 0; done < record.size();) {
      if (next_ % kPageBytes == 0) StartPage(static_cast<uint32_t>(record.size() - done));
      const size_t count = std::min<size_t>(record.size() - done, kPageBytes - next_ % kPageBytes);
      memcpy(At(next_), record.data() + done, count);
      done += count;
      next_ += count;
    }
    next_ = (next_ + 7) / 8 * 8;
    return begin;
  }

  // What a server leaves that died in the middle of a record and starts again: the next record
  // begins on the next page, which says so.
  void GiveUpRecord(size_t bytes_on_this_page) {
    const Lsn good = previous_;
    const Lsn begin =
        Append(0, 0x20, std::string("\xff", 1) + std::string(bytes_on_this_page, 'x'));
    next_ = (begin / kPageBytes + 1) * kPageBytes;
    StartPage(0);
    At(next_ / kPageBytes * kPageBytes)[2] |= 0x08;
    previous_ = good;
  }

  Lsn AppendTablespace(uint32_t oid, const std::string& path) {
    std::string data(4, '\0');
    StoreLittleEndian<uint32_t>(oid, data.data());
    data += path + std::string(1, '\0');
    return Append(5, 0, MainData(data));
  }

  // The end of a transaction, `seconds` after 2000-01-01. `info` as in access/xact.h: 0 = commit,
  // 0x20 = abort.
  Lsn AppendTransactionEnd(uint32_t xid, int64_t seconds, uint8_t info = 0,
                           const std::string& rest = "") {
    std::string data(8, '\0');
    StoreLittleEndian<int64_t>(seconds * 1000000, data.data());
    return Append(1, info, MainData(data + rest), xid);
  }

  Lsn AppendRestorePoint(const std::string& name) {
    std::string data(8 + 64, '\0');
    memcpy(data.data() + 8, name.data(), name.size());
    return Append(0, 0x70, MainData(data));
  }

  // A record's own data as its whole payload.
  static std::string MainData(const std::string& data) {
    if (data.size() < 256) {
      return absl::StrCat("\xff", std::string(1, static_cast<char>(data.size())), data);
    }
    std::string length(4, '\0');
    StoreLittleEndian<uint32_t>(static_cast<uint32_t>(data.size()), length.data());
    return absl::StrCat("\xfe", length, data);
  }

  void SwitchSegment() {
    Append(0, 0x40, "");
    next_ = (next_ + kSegmentBytes - 1) / kSegmentBytes * kSegmentBytes;
  }

  void Fill(size_t bytes) { Append(0, 0x20, std::string(bytes, 'n')); }

  Lsn next() const { return next_; }
  char* At(Lsn lsn) {
    std::string& segment = segments[lsn / kSegmentBytes];
    segment.resize(kSegmentBytes);
    return segment.data() + lsn % kSegmentBytes;
  }

  absl::Status ReadSegment(uint32_t, uint64_t number, uint32_t offset,
                           absl::Span<uint8_t> out) override {
    const auto found = segments.find(number);
    if (found == segments.end()) return absl::NotFoundError("no such segment");
    if (found->second.size() < offset + out.size()) return absl::DataLossError("short segment");
    memcpy(out.data(), found->second.data() + offset, out.size());
    return absl::OkStatus();
  }

  WalStart Start(Lsn begin) const {
    WalStart start;
    start.begin = begin;
    start.segment_bytes = kSegmentBytes;
    start.server_major = 15;
    start.system_identifier = kSystem;
    return start;
  }

  std::map<uint64_t, std::string> segments;

 private:
  void StartPage(uint32_t continued) {
    char* page = At(next_);
    const bool first = next_ % kSegmentBytes == 0;
    StoreLittleEndian<uint16_t>(0xD110, page);
    StoreLittleEndian<uint16_t>(static_cast<uint16_t>((continued > 0 ? 1 : 0) | (first ? 2 : 0)),
                                page + 2);
    StoreLittleEndian<uint32_t>(1, page + 4);
    StoreLittleEndian<uint64_t>(next_, page + 8);
    StoreLittleEndian<uint32_t>(continued, page + 16);
    if (first) {
      StoreLittleEndian<uint64_t>(kSystem, page + 24);
      StoreLittleEndian<uint32_t>(kSegmentBytes, page + 32);
      StoreLittleEndian<uint32_t>(kPageBytes, page + 36);
    }
    next_ += first ? 40 : 24;
  }

  Lsn next_;
  Lsn previous_ = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_TESTS_FS_CATALOG_WAL_WRITER_H_
