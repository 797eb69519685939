// Any text as a configuration: it is refused with a place and a reason, or what it says can be written and read again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "fs/base/status.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"
#include "service/config_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<pbkfs::v1::DaemonConfig> config = pbkfs::ParseConfig(text, "f");
  if (!config.ok()) {
    if (pbkfs::ReasonOf(config.status()) != pbkfs::reason::kInvalidField) abort();
    if (config.status().message().substr(0, 2) != "f:") abort();
    return 0;
  }
  std::string again;
  if (!google::protobuf::TextFormat::PrintToString(*config, &again)) abort();
  const absl::StatusOr<pbkfs::v1::DaemonConfig> second = pbkfs::ParseConfig(again, "f");
  if (!second.ok()) abort();
  if (!google::protobuf::util::MessageDifferencer::Equals(*config, *second)) abort();
  return 0;
}
