#include "service/reloader.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fs/base/status.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"
#include "service/configuration.h"
#include "service/logging.h"
#include "service/proto_convert.h"

namespace pbkfs {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;
using google::protobuf::util::MessageDifferencer;

const FieldDescriptor* FieldOfConfig(const std::string& name) {
  return v1::DaemonConfig::descriptor()->FindFieldByName(name);
}

// `message` with nothing but one of its fields.
template <typename T>
T Only(const T& message, const FieldDescriptor* field) {
  T only = message;
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* other : fields) {
    if (other != field) only.GetReflection()->ClearField(&only, other);
  }
  return only;
}

bool SameField(const v1::DaemonConfig& a, const v1::DaemonConfig& b, const FieldDescriptor* field) {
  return MessageDifferencer::Equals(Only(a, field), Only(b, field));
}

// Addresses, modes and groups: what a socket is made with.
v1::DaemonConfig WithoutTls(v1::DaemonConfig config) {
  for (v1::Listener& listener : *config.mutable_listeners()) listener.clear_tls();
  return config;
}

std::string ValueText(const Message& message, const FieldDescriptor* field) {
  std::string text;
  TextFormat::PrintFieldValueToString(message, field, -1, &text);
  return text;
}

// Lines "limits.max_mounts: 256 -> 10" of the numbers in one message.
template <typename T>
void CompareNumbers(const std::string& prefix, const T& a, const T& b,
                    std::vector<std::string>* changed) {
  for (int i = 0; i < T::descriptor()->field_count(); ++i) {
    const FieldDescriptor* field = T::descriptor()->field(i);
    if (MessageDifferencer::Equals(Only(a, field), Only(b, field))) continue;
    changed->push_back(absl::StrCat(prefix, field->name(), ": ", ValueText(a, field), " -> ",
                                    ValueText(b, field)));
  }
}

template <typename List>
void CompareRoots(const List& a, const List& b, std::vector<std::string>* changed) {
  const auto report = [changed](const char* what, const List& from, const List& without) {
    for (const std::string& root : from) {
      if (std::find(without.begin(), without.end(), root) != without.end()) continue;
      changed->push_back(absl::StrCat("allow_root: ", what, " ", root));
    }
  };
  report("added", b, a);
  report("removed", a, b);
}

std::vector<std::string> RootsOf(const v1::DaemonConfig& config) {
  return {config.allow_root().begin(), config.allow_root().end()};
}

// A mount that is no longer in the file stays.
void ReportRemovedMounts(const v1::DaemonConfig& current, const v1::DaemonConfig& next,
                         std::vector<std::string>* changed) {
  std::set<std::string> targets;
  for (const v1::MountRequest& mount : next.mounts()) targets.insert(mount.target());
  for (const v1::MountRequest& mount : current.mounts()) {
    if (targets.count(mount.target()) > 0) continue;
    changed->push_back(absl::StrCat("mounts: ", mount.target(),
                                    " is no longer in the file, and stays until it is unmounted"));
  }
}

}  // namespace

ConfigChange CompareConfigs(const v1::DaemonConfig& current, const v1::DaemonConfig& next) {
  ConfigChange change;
  change.config = next;
  const auto keep = [&](const std::string& name) {
    const FieldDescriptor* field = FieldOfConfig(name);
    if (SameField(current, change.config, field)) return;
    change.needs_restart.push_back(name);
    change.config.GetReflection()->ClearField(&change.config, field);
    change.config.MergeFrom(Only(current, field));
  };
  if (SameField(WithoutTls(current), WithoutTls(next), FieldOfConfig("listeners"))) {
    if (!SameField(current, next, FieldOfConfig("listeners"))) {
      change.changed.push_back("listeners: tls");
    }
  } else {
    keep("listeners");
  }
  for (const char* name :
       {"metrics_address", "health_address", "state_directory", "budgets", "log_format"}) {
    keep(name);
  }
  if (current.limits().max_request_bytes() != next.limits().max_request_bytes()) {
    change.needs_restart.push_back("limits.max_request_bytes");
    change.config.mutable_limits()->set_max_request_bytes(current.limits().max_request_bytes());
  }
  CompareRoots(current.allow_root(), next.allow_root(), &change.changed);
  if (!SameField(current, next, FieldOfConfig("callers"))) change.changed.push_back("callers");
  CompareNumbers("limits.", current.limits(), change.config.limits(), &change.changed);
  CompareNumbers("defaults.", current.defaults(), next.defaults(), &change.changed);
  if (current.log_level() != next.log_level()) {
    change.changed.push_back(
        absl::StrCat("log_level: ", current.log_level(), " -> ", next.log_level()));
  }
  if (!SameField(current, next, FieldOfConfig("stats_interval"))) {
    change.changed.push_back(
        absl::StrCat("stats_interval: ", absl::FormatDuration(FromProto(current.stats_interval())),
                     " -> ", absl::FormatDuration(FromProto(next.stats_interval()))));
  }
  ReportRemovedMounts(current, next, &change.changed);
  return change;
}

Reloader::~Reloader() { Stop(); }

void Reloader::Stop() {
  if (!thread_.joinable()) return;
  requests_.Stop();
  thread_.join();
}

void Reloader::RequestReload() { requests_.Set(Alarm::Clock::now()); }

void Reloader::Run() {
  while (requests_.Wait()) {
    const absl::StatusOr<v1::ReloadResponse> done = Reload();
    if (done.ok()) continue;
    LogEvent(spdlog::level::err, "reload_failed")
        .Field("reason", ReasonOf(done.status()))
        .Field("message", done.status().message());
  }
}

absl::StatusOr<v1::ReloadResponse> Reloader::Reload() {
  if (options_.config_file.empty()) {
    return ReasonError(absl::StatusCode::kFailedPrecondition, reason::kNoConfigFile,
                       "the daemon was started without a configuration file, so that there is "
                       "nothing to read again; start it with --config FILE");
  }
  MutexLock lock(&mutex_);
  PBKFS_ASSIGN_OR_RETURN(const v1::DaemonConfig next, LoadConfiguration(options_));
  const std::shared_ptr<const v1::DaemonConfig> current = config_.Get();
  ConfigChange change = CompareConfigs(*current, next);
  // All that can fail comes first.
  PBKFS_RETURN_IF_ERROR(WithField(
      WithReason(policy_.SetRoots(RootsOf(change.config)), reason::kInvalidField), "allow_root"));
  absl::Status kept = tls_ ? tls_(change.config) : absl::OkStatus();
  if (kept.ok() && memory_ != nullptr) kept = memory_->Write(change.config);
  if (!kept.ok()) {
    policy_.SetRoots(RootsOf(*current)).IgnoreError();
    return kept;
  }
  PBKFS_RETURN_IF_ERROR(SetLogLevel(change.config.log_level()));
  stats_logger_.SetInterval(FromProto(change.config.stats_interval()));
  config_.Replace(std::move(change.config));

  // A start that is still at its mounts goes first.
  mounts_.WaitUntilSettled();
  const ConfiguredMounts::Result made = mounts_.MakeMissing();
  for (const std::string& id : made.made) {
    change.changed.push_back(absl::StrCat("mounts: ", id, " is mounted"));
  }
  LogEvent(spdlog::level::info, "reloaded")
      .Field("file", options_.config_file)
      .Field("changed", absl::StrJoin(change.changed, "; "))
      .Field("needs_restart", absl::StrJoin(change.needs_restart, ", "))
      .Field("failed_mounts", static_cast<uint64_t>(made.failed.size()));
  v1::ReloadResponse response;
  for (std::string& line : change.changed) response.add_changed(std::move(line));
  for (std::string& line : change.needs_restart) response.add_needs_restart(std::move(line));
  for (const std::string& line : made.failed) response.add_failed_mounts(line);
  return response;
}

}  // namespace pbkfs
