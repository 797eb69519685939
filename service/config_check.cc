#include "service/config_check.h"

#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "fs/base/status.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "service/config_defaults.h"
#include "service/limits.h"
#include "service/logging.h"
#include "service/mount_plan.h"
#include "service/path_policy.h"
#include "service/proto_convert.h"
#include "service/utf8.h"

namespace pbkfs {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// sockaddr_un::sun_path with its final NUL.
constexpr size_t kMaxSocketPath = 107;
constexpr uint32_t kMaxMode = 0777;

absl::Status Wrong(absl::string_view message) { return absl::InvalidArgumentError(message); }

std::string Indexed(absl::string_view field, int index) {
  return absl::StrCat(field, "[", index, "]");
}

bool IsHostAndPort(absl::string_view value) {
  const size_t colon = value.rfind(':');
  int port = -1;
  return colon != absl::string_view::npos && colon != 0 &&
         absl::SimpleAtoi(value.substr(colon + 1), &port) && port >= 0 && port <= 65535;
}

class Checker {
 public:
  explicit Checker(const v1::DaemonConfig& config) : config_(config) {}

  std::vector<ConfigProblem> Run() {
    CheckText("", config_);
    CheckListeners();
    CheckPaths();
    for (int i = 0; i < config_.callers_size(); ++i) CheckCaller(i);
    CheckNumbers();
    CheckLogging();
    CheckMounts();
    return std::move(problems_);
  }

 private:
  void Add(std::string field, absl::string_view message) {
    problems_.push_back({std::move(field), std::string(message)});
  }
  void Add(std::string field, const absl::Status& status) {
    if (!status.ok()) Add(std::move(field), status.message());
  }

  // Text format can write any bytes; what leaves the daemon must be UTF-8.
  void CheckText(const std::string& prefix, const Message& message) {
    const auto* reflection = message.GetReflection();
    std::vector<const FieldDescriptor*> fields;
    reflection->ListFields(message, &fields);
    for (const FieldDescriptor* field : fields) {
      const int count = field->is_repeated() ? reflection->FieldSize(message, field) : 1;
      for (int i = 0; i < count; ++i) {
        const std::string name = absl::StrCat(
            prefix, field->is_map()
                        ? field->name()
                        : (field->is_repeated() ? Indexed(field->name(), i) : field->name()));
        if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
          CheckText(name + ".", field->is_repeated()
                                    ? reflection->GetRepeatedMessage(message, field, i)
                                    : reflection->GetMessage(message, field));
        } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
          const std::string text = field->is_repeated()
                                       ? reflection->GetRepeatedString(message, field, i)
                                       : reflection->GetString(message, field);
          if (ToUtf8(text) != text) Add(name, "is not UTF-8");
        }
      }
    }
  }

  void CheckListeners() {
    std::set<std::string> addresses;
    for (int i = 0; i < config_.listeners_size(); ++i) {
      const v1::Listener& listener = config_.listeners(i);
      const std::string field = Indexed("listeners", i);
      const absl::Status address = CheckListenAddress(listener.address());
      Add(field + ".address", address);
      if (!address.ok()) continue;
      const std::string path = SocketPath(listener.address());
      if (!addresses.insert(path.empty() ? listener.address() : path).second) {
        Add(field + ".address", "is there twice");
      }
      if (path.empty()) {
        CheckTcp(field, listener);
      } else if (listener.has_tls()) {
        Add(field + ".tls", "is for HOST:PORT; a unix socket has none");
      }
      if (listener.mode() > kMaxMode) {
        Add(field + ".mode", "must be permission bits as a decimal number, at most 511 (0777)");
      }
    }
  }

  void CheckTcp(const std::string& field, const v1::Listener& listener) {
    if (listener.mode() != 0) Add(field + ".mode", "is for unix sockets");
    if (!listener.group().empty()) Add(field + ".group", "is for unix sockets");
    if (!listener.has_tls()) {
      Add(field + ".tls",
          "is missing, and HOST:PORT is not served without TLS: give "
          "certificate_file, key_file and client_ca_file, or listen at unix:PATH");
      return;
    }
    Add(field + ".tls.certificate_file", CheckDirectory(listener.tls().certificate_file()));
    Add(field + ".tls.key_file", CheckDirectory(listener.tls().key_file()));
    Add(field + ".tls.client_ca_file", CheckDirectory(listener.tls().client_ca_file()));
  }

  void CheckPaths() {
    if (!config_.state_directory().empty()) {
      Add("state_directory", CheckDirectory(config_.state_directory()));
    }
    for (int i = 0; i < config_.allow_root_size(); ++i) {
      Add(Indexed("allow_root", i), CheckDirectory(config_.allow_root(i)));
    }
    if (!config_.metrics_address().empty()) {
      Add("metrics_address", CheckMetricsAddress(config_.metrics_address()));
    }
    if (!config_.health_address().empty()) {
      Add("health_address", CheckHostPort(config_.health_address()));
    }
  }

  void CheckCaller(int i) {
    const v1::Caller& caller = config_.callers(i);
    const std::string field = Indexed("callers", i);
    if (caller.who_case() == v1::Caller::WHO_NOT_SET) {
      Add(field, "says nobody: give uid, gid or certificate");
    } else if (caller.who_case() == v1::Caller::kCertificate && caller.certificate().empty()) {
      Add(field + ".certificate", "is empty: give the name in the client's certificate");
    }
    if (!caller.has_owner()) return;
    if (caller.who_case() != v1::Caller::kCertificate) {
      Add(field + ".owner", "is for certificates: local callers may own what they mount");
    } else if (caller.administrator()) {
      Add(field + ".owner", "contradicts administrator, who may name any owner");
    }
  }

  void CheckAtMost(const std::string& field, uint64_t value, uint64_t most) {
    if (value > most) Add(field, absl::StrCat("must be at most ", most));
  }

  void CheckNumbers() {
    const v1::Limits& limits = config_.limits();
    CheckAtMost("limits.max_mounts", limits.max_mounts(), kMaxMounts);
    CheckAtMost("limits.max_connections", limits.max_connections(), kMaxConnectionsBound);
    CheckAtMost("limits.max_concurrent_calls", limits.max_concurrent_calls(),
                kMaxConcurrentCallsBound);
    const uint32_t bytes = limits.max_request_bytes();
    if (bytes != 0 && (bytes < kMinRequestBytes || bytes > kMaxRequestBytesBound)) {
      Add("limits.max_request_bytes",
          absl::StrCat("must be from ", kMinRequestBytes, " to ", kMaxRequestBytesBound));
    }
    for (const auto& [field, value] :
         {std::pair("budgets.page_index_bytes", config_.budgets().page_index_bytes()),
          std::pair("budgets.page_cache_bytes", config_.budgets().page_cache_bytes())}) {
      if (value != 0 && (value < kMinBudgetBytes || value > kMaxBudgetBytes)) {
        Add(field, absl::StrCat("must be 0 (by the memory of the machine), or from ",
                                kMinBudgetBytes, " to ", kMaxBudgetBytes));
      }
    }
    const v1::MountDefaults& defaults = config_.defaults();
    CheckAtMost("defaults.threads", defaults.threads(), kMaxThreads);
    if (!v1::CatalogLock_IsValid(defaults.catalog_lock())) {
      Add("defaults.catalog_lock",
          "must be CATALOG_LOCK_AUTO, CATALOG_LOCK_REQUIRED or CATALOG_LOCK_OFF");
    }
    if (defaults.diff_limit_bytes() < 0) Add("defaults.diff_limit_bytes", "is negative");
  }

  void CheckLogging() {
    if (!config_.log_level().empty()) Add("log_level", CheckLogLevel(config_.log_level()));
    if (!config_.log_format().empty()) Add("log_format", CheckLogFormat(config_.log_format()));
    if (!config_.has_stats_interval()) return;
    const auto& interval = config_.stats_interval();
    if (interval.seconds() < 0 || interval.nanos() < 0 || interval.nanos() >= 1'000'000'000 ||
        FromProto(interval) > kMaxStatsInterval) {
      Add("stats_interval", "must be from 0 (never) to a year, as { seconds: 60 }");
    }
  }

  void CheckMounts() {
    const v1::DaemonConfig defaults = WithDefaults(config_);
    std::map<std::string, int> ids;
    std::map<std::string, int> targets;
    for (int i = 0; i < config_.mounts_size(); ++i) {
      const std::string field = Indexed("mounts", i);
      if (config_.mounts(i).validate_only()) {
        Add(field + ".validate_only", "makes no mount: take it away");
      }
      const absl::StatusOr<v1::MountRequest> mount =
          NormalizeRequest(config_.mounts(i), defaults.state_directory(), defaults.defaults());
      if (!mount.ok()) {
        const std::string part = FieldOf(mount.status());
        // The message begins with the field's name.
        absl::string_view message = mount.status().message();
        absl::ConsumePrefix(&message, part + ": ");
        Add(part.empty() ? field : absl::StrCat(field, ".", part), message);
        continue;
      }
      if (const auto [other, is_new] = ids.emplace(mount->mount_id(), i); !is_new) {
        Add(field + ".mount_id",
            absl::StrCat("'", mount->mount_id(), "' is that of mounts[", other->second, "] too"));
      }
      if (const auto [other, is_new] = targets.emplace(mount->target(), i); !is_new) {
        Add(field + ".target",
            absl::StrCat(mount->target(), " is that of mounts[", other->second, "] too"));
      }
    }
  }

  const v1::DaemonConfig& config_;
  std::vector<ConfigProblem> problems_;
};

}  // namespace

std::vector<ConfigProblem> CheckConfig(const v1::DaemonConfig& config) {
  return Checker(config).Run();
}

std::string SocketPath(absl::string_view address) {
  if (!absl::ConsumePrefix(&address, "unix:")) return "";
  // gRPC also writes unix:///path.
  if (absl::StartsWith(address, "//")) address.remove_prefix(2);
  return std::string(address);
}

absl::Status CheckListenAddress(absl::string_view address) {
  if (!absl::StartsWith(address, "unix:")) {
    if (IsHostAndPort(address)) return absl::OkStatus();
    return Wrong("must be unix:PATH or HOST:PORT");
  }
  const std::string path = SocketPath(address);
  if (!absl::StartsWith(path, "/")) return Wrong("the path of a socket must be absolute");
  if (path.size() > kMaxSocketPath) {
    return Wrong(absl::StrCat("the path of a socket has at most ", kMaxSocketPath, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status CheckHostPort(absl::string_view address) {
  return IsHostAndPort(address) ? absl::OkStatus() : Wrong("must be HOST:PORT");
}

absl::Status CheckMetricsAddress(absl::string_view address) {
  if (address == "off" || IsHostAndPort(address)) return absl::OkStatus();
  return Wrong("must be HOST:PORT, or 'off'");
}

absl::Status CheckDirectory(absl::string_view path) {
  if (!absl::StartsWith(path, "/")) return Wrong("must be an absolute path");
  // "/" is a legal root, though not the path of a request.
  if (path.find_first_not_of('/') == absl::string_view::npos) return absl::OkStatus();
  const absl::StatusOr<std::string> clean = CleanPath("", path);
  if (clean.ok()) return absl::OkStatus();
  return Wrong(absl::StripPrefix(clean.status().message(), ": "));
}

absl::Status CheckLogFormat(absl::string_view format) {
  if (format == "text" || format == "json") return absl::OkStatus();
  return Wrong("must be text or json");
}

}  // namespace pbkfs
