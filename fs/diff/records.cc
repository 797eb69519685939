#include "fs/diff/records.h"

#include <cassert>
#include <cstring>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/bytes.h"
#include "fs/base/crc32c.h"
#include "fs/base/status.h"
#include "fs/diff/limits.h"

namespace pbkfs {
namespace {

constexpr char kMagic[8] = {'P', 'B', 'K', 'F', 'S', 'L', 'O', 'G'};

class Encoder {
 public:
  explicit Encoder(std::string* out) : out_(out) {}

  template <typename T>
  Encoder& operator()(const T& value) {
    if constexpr (std::is_integral_v<T>) {
      char bytes[sizeof(T)];
      StoreLittleEndian(value, bytes);
      out_->append(bytes, sizeof(T));
    } else {
      assert(value.size() <= UINT16_MAX);
      (*this)(static_cast<uint16_t>(value.size()));
      out_->append(value);
    }
    return *this;
  }

 private:
  std::string* const out_;
};

class Decoder {
 public:
  explicit Decoder(absl::Span<const uint8_t> bytes) : bytes_(bytes) {}

  template <typename T>
  Decoder& operator()(T& value) {
    if constexpr (std::is_integral_v<T>) {
      if (bytes_.size() < sizeof(T)) return Fail();
      value = LoadLittleEndian<T>(bytes_.data());
      bytes_.remove_prefix(sizeof(T));
    } else {
      uint16_t length = 0;
      (*this)(length);
      if (bytes_.size() < length) return Fail();
      value.assign(reinterpret_cast<const char*>(bytes_.data()), length);
      bytes_.remove_prefix(length);
    }
    return *this;
  }

  // Everything was there, and nothing is left.
  bool Complete() const { return !failed_ && bytes_.empty(); }

 private:
  Decoder& Fail() {
    failed_ = true;
    bytes_ = {};
    return *this;
  }

  absl::Span<const uint8_t> bytes_;
  bool failed_ = false;
};

size_t Padded(size_t size) { return (size + 7) & ~size_t{7}; }

uint32_t SealedCrc(uint64_t seed, const char* length_field, const char* rest, size_t rest_size) {
  char seed_bytes[8];
  StoreLittleEndian(seed, seed_bytes);
  uint32_t crc = Crc32c(seed_bytes, sizeof(seed_bytes));
  crc = Crc32c(crc, length_field, 4);
  return Crc32c(crc, rest, rest_size);
}

// Decodes the payload as the alternative whose type number is `type`.
template <size_t I = 0>
bool DecodePayload(RecordType type, absl::Span<const uint8_t> payload, Record* record) {
  if constexpr (I == std::variant_size_v<Record>) {
    return false;
  } else {
    using Alternative = std::variant_alternative_t<I, Record>;
    if (Alternative::kType != type) return DecodePayload<I + 1>(type, payload, record);
    Alternative value;
    Decoder decoder(payload);
    value.Fields(decoder);
    if (!decoder.Complete()) return false;
    *record = std::move(value);
    return true;
  }
}

absl::Status Damaged(absl::string_view what) { return absl::DataLossError(what); }

}  // namespace

std::string EncodeLogHeader(const LogHeader& header) {
  std::string bytes(kMagic, sizeof(kMagic));
  Encoder encode(&bytes);
  encode(kLogFormatVersion)(static_cast<uint32_t>(kLogHeaderBytes))(header.seed)(header.generation);
  bytes.resize(kLogHeaderBytes - 4, '\0');
  encode(Crc32c(bytes.data(), bytes.size()));
  return bytes;
}

absl::StatusOr<LogHeader> DecodeLogHeader(absl::Span<const uint8_t> bytes) {
  if (bytes.size() < kLogHeaderBytes || memcmp(bytes.data(), kMagic, sizeof(kMagic)) != 0) {
    return Damaged("the log does not begin with the header of a pbkfs log");
  }
  const auto stored = LoadLittleEndian<uint32_t>(bytes.data() + kLogHeaderBytes - 4);
  if (Crc32c(bytes.data(), kLogHeaderBytes - 4) != stored) {
    return Damaged("the checksum of the log's header is wrong");
  }
  const auto version = LoadLittleEndian<uint32_t>(bytes.data() + 8);
  if (version != kLogFormatVersion) {
    return ReasonError(absl::StatusCode::kUnimplemented, reason::kUnsupportedFormat,
                       absl::StrCat("the log has format version ", version, ", this program knows ",
                                    kLogFormatVersion, "; use the program that wrote it"));
  }
  LogHeader header;
  header.seed = LoadLittleEndian<uint64_t>(bytes.data() + 16);
  header.generation = LoadLittleEndian<uint64_t>(bytes.data() + 24);
  return header;
}

std::string EncodeRecord(const Record& record, uint64_t sequence, uint64_t durable_to,
                         uint64_t seed) {
  std::string bytes(kLogRecordHeaderBytes, '\0');
  Encoder encode(&bytes);
  const RecordType type = std::visit(
      [&encode](const auto& value) {
        // Fields() is one function for both directions; encoding only reads.
        const_cast<std::remove_cvref_t<decltype(value)>&>(value).Fields(encode);
        return std::remove_cvref_t<decltype(value)>::kType;
      },
      record);
  assert(bytes.size() <= kMaxRecordBytes);
  const auto length = static_cast<uint32_t>(bytes.size());
  StoreLittleEndian(length, bytes.data());
  StoreLittleEndian(sequence, bytes.data() + 8);
  StoreLittleEndian(durable_to, bytes.data() + 16);
  StoreLittleEndian(static_cast<uint16_t>(type), bytes.data() + 24);
  StoreLittleEndian(SealedCrc(seed, bytes.data(), bytes.data() + 8, bytes.size() - 8),
                    bytes.data() + 4);
  bytes.resize(Padded(bytes.size()), '\0');
  return bytes;
}

absl::StatusOr<DecodedRecord> DecodeRecord(absl::Span<const uint8_t> bytes, uint64_t seed) {
  if (bytes.size() < 4) return absl::NotFoundError("end of the log");
  const auto length = LoadLittleEndian<uint32_t>(bytes.data());
  if (length == 0) return absl::NotFoundError("end of the log");
  if (length < kLogRecordHeaderBytes || length > kMaxRecordBytes || Padded(length) > bytes.size()) {
    return Damaged(absl::StrCat("a record has the impossible length ", length));
  }
  const auto* raw = reinterpret_cast<const char*>(bytes.data());
  if (SealedCrc(seed, raw, raw + 8, length - 8) != LoadLittleEndian<uint32_t>(raw + 4)) {
    return Damaged("the checksum of a record is wrong");
  }
  DecodedRecord decoded;
  decoded.sequence = LoadLittleEndian<uint64_t>(raw + 8);
  decoded.durable_to = LoadLittleEndian<uint64_t>(raw + 16);
  decoded.bytes = Padded(length);
  const auto type = static_cast<RecordType>(LoadLittleEndian<uint16_t>(raw + 24));
  const auto payload = bytes.subspan(kLogRecordHeaderBytes, length - kLogRecordHeaderBytes);
  if (!DecodePayload(type, payload, &decoded.record)) {
    return Damaged(absl::StrCat("a record of type ", static_cast<int>(type),
                                " does not have the fields of its type"));
  }
  return decoded;
}

}  // namespace pbkfs
