#include "service/configuration.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "service/config_check.h"
#include "service/config_defaults.h"
#include "service/config_file.h"

namespace pbkfs {
namespace {

// The command line can say HOST:PORT, but not with which certificates: the first ones of the file.
void ShareTls(v1::DaemonConfig* config) {
  const v1::Tls* tls = nullptr;
  for (const v1::Listener& listener : config->listeners()) {
    if (tls == nullptr && listener.has_tls()) tls = &listener.tls();
  }
  if (tls == nullptr) return;
  for (v1::Listener& listener : *config->mutable_listeners()) {
    if (!listener.has_tls() && SocketPath(listener.address()).empty()) {
      *listener.mutable_tls() = *tls;
    }
  }
}

}  // namespace

v1::DaemonConfig Merge(const v1::DaemonConfig& file, const v1::DaemonConfig& command_line) {
  v1::DaemonConfig config = file;
  // A message would be merged field by field.
  if (command_line.has_stats_interval()) config.clear_stats_interval();
  config.MergeFrom(command_line);
  ShareTls(&config);
  return config;
}

absl::StatusOr<v1::DaemonConfig> LoadConfiguration(const DaemonOptions& options) {
  v1::DaemonConfig file;
  if (!options.config_file.empty()) {
    PBKFS_ASSIGN_OR_RETURN(file, ReadConfigFile(options.config_file));
  }
  const v1::DaemonConfig merged = Merge(file, options.given);
  // Both are right by themselves, and may contradict each other.
  const std::vector<ConfigProblem> problems = CheckConfig(merged);
  if (!problems.empty()) {
    return ReasonError(
        absl::StatusCode::kInvalidArgument, reason::kInvalidField,
        absl::StrCat(options.config_file.empty() ? "the command line"
                                                 : options.config_file + " and the command line",
                     " together: ", problems[0].field, ": ", problems[0].message));
  }
  return WithDefaults(merged);
}

std::vector<std::string> SocketPaths(const v1::DaemonConfig& config) {
  std::vector<std::string> paths;
  for (const v1::Listener& listener : config.listeners()) {
    std::string path = SocketPath(listener.address());
    if (!path.empty()) paths.push_back(std::move(path));
  }
  return paths;
}

std::vector<ListenAddress> ListenAddresses(const v1::DaemonConfig& config) {
  std::vector<ListenAddress> addresses;
  for (const v1::Listener& listener : config.listeners()) {
    ListenAddress& address = addresses.emplace_back();
    address.path = SocketPath(listener.address());
    if (listener.mode() != 0) address.mode = listener.mode();
    address.group = listener.group();
    address.address = listener.address();
  }
  return addresses;
}

}  // namespace pbkfs
