// File names are bytes; protobuf strings and JSON are UTF-8.
#ifndef PBKFS_SERVICE_UTF8_H_
#define PBKFS_SERVICE_UTF8_H_

#include <string>

#include "absl/strings/string_view.h"

namespace pbkfs {

// `text` with bytes that are not UTF-8 replaced by '?'.
std::string ToUtf8(absl::string_view text);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_UTF8_H_
