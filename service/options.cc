#include "service/options.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "fs/base/status.h"
#include "service/config_check.h"
#include "service/limits.h"
#include "service/logging.h"
#include "service/proto_convert.h"

namespace pbkfs {
namespace {

absl::Status Usage(absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat(message, "; see pbkfsd --help"));
}

absl::StatusOr<absl::Duration> ParseDuration(absl::string_view flag, absl::string_view value,
                                             absl::Duration highest) {
  absl::Duration duration;
  double seconds = 0;
  if (absl::SimpleAtod(value, &seconds)) {
    duration = absl::Seconds(seconds);
  } else if (!absl::ParseDuration(value, &duration)) {
    return Usage(absl::StrCat(flag, " ", value, ": use a duration such as 60s, 5m or 0"));
  }
  if (duration < absl::ZeroDuration() || duration > highest) {
    return Usage(absl::StrCat(flag, " ", value, ": out of range"));
  }
  return duration;
}

// `check` says what is wrong with the value of a flag.
absl::Status CheckValue(absl::string_view flag, absl::string_view value,
                        const absl::Status& check) {
  if (check.ok()) return check;
  return Usage(absl::StrCat(flag, " '", value, "': ", check.message()));
}

// A relative path would mean another file once the process is a daemon.
absl::StatusOr<std::string> AbsolutePath(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  if (path.empty() || error) return Usage(absl::StrCat("--config '", path, "': use a path"));
  return absolute.string();
}

// What keeper and worker tell their programs; not for users.
absl::Status TakeInternal(absl::string_view flag, const std::string& value,
                          DaemonOptions* options) {
  if (flag == "--check-handover") {
    options->handover_versions = value;
    return absl::OkStatus();
  }
  int* number = flag == "--worker-socket"   ? &options->worker_socket
                : flag == "--keeper-state"  ? &options->keeper_state
                : flag == "--config-memory" ? &options->config_memory
                                            : nullptr;
  if (number == nullptr || !absl::SimpleAtoi(value, number)) {
    return Usage(absl::StrCat("unknown option ", flag));
  }
  return absl::OkStatus();
}

// Takes one flag with its value into `options`.
absl::Status TakeValue(absl::string_view flag, const std::string& value, DaemonOptions* options) {
  v1::DaemonConfig& given = options->given;
  if (flag == "--config") {
    PBKFS_ASSIGN_OR_RETURN(options->config_file, AbsolutePath(value));
  } else if (flag == "--listen") {
    PBKFS_RETURN_IF_ERROR(CheckValue(flag, value, CheckListenAddress(value)));
    given.add_listeners()->set_address(value);
  } else if (flag == "--metrics") {
    const std::string address = value.empty() ? "off" : value;
    PBKFS_RETURN_IF_ERROR(CheckValue(flag, value, CheckMetricsAddress(address)));
    given.set_metrics_address(address);
  } else if (flag == "--state-dir") {
    PBKFS_RETURN_IF_ERROR(CheckValue(flag, value, CheckDirectory(value)));
    given.set_state_directory(value);
  } else if (flag == "--allow-root") {
    PBKFS_RETURN_IF_ERROR(CheckValue(flag, value, CheckDirectory(value)));
    given.add_allow_root(value);
  } else if (flag == "--stats-interval") {
    PBKFS_ASSIGN_OR_RETURN(const absl::Duration interval,
                           ParseDuration(flag, value, kMaxStatsInterval));
    ToProto(interval, given.mutable_stats_interval());
  } else if (flag == "--log-level") {
    PBKFS_RETURN_IF_ERROR(CheckValue(flag, value, CheckLogLevel(value)));
    given.set_log_level(value);
  } else if (flag == "--log-format") {
    PBKFS_RETURN_IF_ERROR(CheckValue(flag, value, CheckLogFormat(value)));
    given.set_log_format(value);
  } else if (flag == "--health") {
    PBKFS_RETURN_IF_ERROR(CheckValue(flag, value, CheckHostPort(value)));
    given.set_health_address(value);
  } else if (flag == "--stop-timeout") {
    PBKFS_ASSIGN_OR_RETURN(options->stop_timeout, ParseDuration(flag, value, absl::Hours(24)));
  } else if (flag == "--restart-limit") {
    if (!absl::SimpleAtoi(value, &options->restart_limit) || options->restart_limit < 0) {
      return Usage(absl::StrCat("--restart-limit ", value, ": use a number"));
    }
  } else {
    return TakeInternal(flag, value, options);
  }
  return absl::OkStatus();
}

bool TakesValue(absl::string_view flag) {
  for (const absl::string_view known :
       {"--config", "--listen", "--metrics", "--state-dir", "--allow-root", "--stats-interval",
        "--log-level", "--log-format", "--restart-limit", "--stop-timeout", "--health",
        "--worker-socket", "--keeper-state", "--config-memory", "--check-handover"}) {
    if (flag == known) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<DaemonOptions> ParseDaemonOptions(const std::vector<std::string>& arguments) {
  DaemonOptions options;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      options.show_help = true;
      continue;
    }
    if (argument == "--version") {
      options.show_version = true;
      continue;
    }
    if (argument == "--no-keeper") {
      options.no_keeper = true;
      continue;
    }
    const size_t equals = argument.find('=');
    const std::string flag = argument.substr(0, equals);
    if (!TakesValue(flag)) {
      return Usage(absl::StrCat(
          absl::StartsWith(argument, "-") ? "unknown option " : "unexpected argument ", argument));
    }
    std::string value;
    if (equals != std::string::npos) {
      value = argument.substr(equals + 1);
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    } else {
      return Usage(absl::StrCat(flag, " needs a value"));
    }
    PBKFS_RETURN_IF_ERROR(TakeValue(flag, value, &options));
  }
  return options;
}

absl::string_view DaemonHelp() {
  return R"(pbkfsd: mounts pg_probackup backups as writable PostgreSQL data directories

  pbkfsd [OPTION]...

  --config FILE          read the configuration from FILE (proto/pbkfs/v1/config.proto in protobuf's
                         text format); the options below win over it, --listen and --allow-root add
  --listen unix:PATH     socket of the API; may be repeated (unix:/run/pbkfs/pbkfsd.sock). TCP needs
                         TLS: listeners { address, tls } of the configuration file
  --metrics HOST:PORT    Prometheus metrics at /metrics, or 'off' (127.0.0.1:9467)
  --health HOST:PORT     gRPC health checks without TLS, for probes (none)
  --state-dir DIR        where diffs go that a request does not place (/var/lib/pbkfs)
  --allow-root DIR       catalogs, targets and diffs may lie below DIR; may be repeated.
                         Without it only the state directory may be used.
  --no-keeper            serve mounts in this process: they end if it dies
  --restart-limit N      workers that may die within a minute before mounts end with errors (100)
  --stop-timeout D       after SIGTERM detach mounts that are still in use after this time: 25s, 5m
                         (without it they are waited for until a second signal)
  --stats-interval D     log the I/O of each mount this often: 60s, 5m, 0 = never (60s)
  --log-level L          trace, debug, info, warn or error (info)
  --log-format F         text or json (text)
  --version              print the version
  --help                 print this

SIGTERM and SIGINT unmount everything and stop; mounts that are in use are waited for, until a
second signal detaches them. SIGHUP reads the configuration file again. SIGUSR2 goes over to the
program that is now on the disk.

Example:
  pbkfsd --allow-root /backup --allow-root /srv/clones
  pbkfs mount --store /backup --instance main --target /srv/clones/a
)";
}

}  // namespace pbkfs
