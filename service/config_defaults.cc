#include "service/config_defaults.h"

#include <cstdlib>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/time/time.h"
#include "service/limits.h"
#include "service/proto_convert.h"

namespace pbkfs {
namespace {

constexpr char kDefaultSocket[] = "unix:/run/pbkfs/pbkfsd.sock";
constexpr char kDefaultStateDirectory[] = "/var/lib/pbkfs";
constexpr absl::Duration kDefaultStatsInterval = absl::Seconds(60);

bool MaterializeByEnvironment() {
  const char* value = getenv("PBKFS_MATERIALIZE_ON_READ");
  if (value == nullptr) return false;
  const std::string lower = absl::AsciiStrToLower(value);
  return lower == "1" || lower == "true" || lower == "on" || lower == "yes";
}

void FillLimits(v1::Limits* limits) {
  if (limits->max_mounts() == 0) limits->set_max_mounts(kDefaultMaxMounts);
  if (limits->max_connections() == 0) limits->set_max_connections(kDefaultMaxConnections);
  if (limits->max_concurrent_calls() == 0) {
    limits->set_max_concurrent_calls(kDefaultMaxConcurrentCalls);
  }
  if (limits->max_request_bytes() == 0) limits->set_max_request_bytes(kDefaultMaxRequestBytes);
}

void FillMountDefaults(v1::MountDefaults* defaults) {
  if (!defaults->has_materialize_on_read()) {
    defaults->set_materialize_on_read(MaterializeByEnvironment());
  }
  if (defaults->catalog_lock() == v1::CATALOG_LOCK_UNSPECIFIED) {
    defaults->set_catalog_lock(v1::CATALOG_LOCK_AUTO);
  }
  if (defaults->threads() == 0) defaults->set_threads(kDefaultThreads);
}

}  // namespace

v1::DaemonConfig WithDefaults(v1::DaemonConfig config) {
  if (config.listeners().empty()) config.add_listeners()->set_address(kDefaultSocket);
  if (config.state_directory().empty()) config.set_state_directory(kDefaultStateDirectory);
  FillLimits(config.mutable_limits());
  FillMountDefaults(config.mutable_defaults());
  if (config.log_level().empty()) config.set_log_level("info");
  if (config.log_format().empty()) config.set_log_format("text");
  if (!config.has_stats_interval()) {
    ToProto(kDefaultStatsInterval, config.mutable_stats_interval());
  }
  return config;
}

}  // namespace pbkfs
