// The "key = value" syntax of backup.control and pg_probackup.conf (format document, section 2.1).
//
// The program that writes these files does not escape quotes, so a line can be malformed although
// the rest is sound. A malformed line is kept with its problem, and fails only who asks for its
// key.
#ifndef PBKFS_FS_CATALOG_CONTROL_FILE_H_
#define PBKFS_FS_CATALOG_CONTROL_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pbkfs {

struct ControlSetting {
  std::string key;  // Lower case, '-' for '_' and space.
  std::string value;
  int line = 0;
  std::string problem;  // Why the line is malformed; "" where it is not.
};

class ControlFile {
 public:
  // DATA_LOSS (CATALOG_CORRUPT) only for what can't be a text file of this kind.
  static absl::StatusOr<ControlFile> Parse(absl::string_view text);

  const std::vector<ControlSetting>& settings() const { return settings_; }
  // The last setting of `key` (in its normal form), or null.
  const ControlSetting* Find(absl::string_view key) const;

  // Each leaves `value` as it is where the key is absent, and gives DATA_LOSS (CATALOG_CORRUPT)
  // with the line number where the line is malformed or the value is not of the type.
  absl::Status GetText(absl::string_view key, std::string& value) const;
  absl::Status GetBool(absl::string_view key, bool& value) const;
  absl::Status GetUnsigned(absl::string_view key, uint64_t max, uint64_t& value) const;
  absl::Status GetUnsigned(absl::string_view key, uint32_t& value) const;
  absl::Status GetSigned(absl::string_view key, int64_t& value) const;
  // "X/Y" in hex.
  absl::Status GetLsn(absl::string_view key, uint64_t& value) const;
  // "YYYY-MM-DD HH:MM:SS+ZZ" to Unix seconds.
  absl::Status GetTime(absl::string_view key, int64_t& value) const;

 private:
  template <typename Value, typename Parser>
  absl::Status Get(absl::string_view key, absl::string_view type, Value& value,
                   const Parser& parser) const;

  std::vector<ControlSetting> settings_;
};

// "X/Y", two words of up to eight hex digits. False where `text` is something else.
bool ParseLsn(absl::string_view text, uint64_t& value);

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_CONTROL_FILE_H_
