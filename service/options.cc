#include "service/options.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "fs/base/status.h"

namespace pbkfs {
namespace {

constexpr absl::string_view kDefaultSocket = "/run/pbkfs/pbkfsd.sock";
constexpr absl::string_view kDefaultMetrics = "127.0.0.1:9467";
constexpr absl::string_view kDefaultStateDirectory = "/var/lib/pbkfs";
// sockaddr_un::sun_path with its final NUL.
constexpr size_t kMaxSocketPath = 107;

absl::Status Usage(absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat(message, "; see pbkfsd --help"));
}

absl::StatusOr<std::string> ParseListen(absl::string_view value) {
  absl::string_view path = value;
  if (!absl::ConsumePrefix(&path, "unix:")) {
    return Usage(absl::StrCat("--listen ", value,
                              ": TCP needs TLS, which this version does not have; use unix:PATH"));
  }
  // gRPC also writes unix:///path.
  if (absl::StartsWith(path, "//")) path.remove_prefix(2);
  if (!absl::StartsWith(path, "/")) {
    return Usage(absl::StrCat("--listen ", value, ": the path must be absolute"));
  }
  if (path.size() > kMaxSocketPath) {
    return Usage(absl::StrCat("--listen ", value, ": the path of a socket has at most ",
                              kMaxSocketPath, " bytes"));
  }
  return std::string(path);
}

absl::StatusOr<std::string> ParseMetrics(absl::string_view value) {
  if (value.empty() || value == "off") return std::string();
  const size_t colon = value.rfind(':');
  int port = -1;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(value.substr(colon + 1), &port) || port < 0 || port > 65535) {
    return Usage(absl::StrCat("--metrics ", value, ": use HOST:PORT, or 'off'"));
  }
  return std::string(value);
}

absl::StatusOr<absl::Duration> ParseInterval(absl::string_view value) {
  absl::Duration duration;
  double seconds = 0;
  if (absl::SimpleAtod(value, &seconds)) {
    duration = absl::Seconds(seconds);
  } else if (!absl::ParseDuration(value, &duration)) {
    return Usage(absl::StrCat("--stats-interval ", value, ": use a duration such as 60s, 5m or 0"));
  }
  if (duration < absl::ZeroDuration() || duration > absl::Hours(24 * 365)) {
    return Usage(absl::StrCat("--stats-interval ", value, ": out of range"));
  }
  return duration;
}

absl::StatusOr<std::string> ParseDirectory(absl::string_view flag, absl::string_view value) {
  if (!absl::StartsWith(value, "/")) {
    return Usage(absl::StrCat(flag, " '", value, "': the path must be absolute"));
  }
  return std::string(value);
}

// What keeper and worker tell their programs; not for users.
absl::Status TakeInternal(absl::string_view flag, const std::string& value,
                          DaemonOptions* options) {
  if (flag == "--check-handover") {
    options->handover_versions = value;
    return absl::OkStatus();
  }
  int* number = flag == "--worker-socket"  ? &options->worker_socket
                : flag == "--keeper-state" ? &options->keeper_state
                                           : nullptr;
  if (number == nullptr || !absl::SimpleAtoi(value, number)) {
    return Usage(absl::StrCat("unknown option ", flag));
  }
  return absl::OkStatus();
}

// Takes one flag with its value into `options`.
absl::Status TakeValue(absl::string_view flag, const std::string& value, DaemonOptions* options) {
  if (flag == "--listen") {
    PBKFS_ASSIGN_OR_RETURN(std::string path, ParseListen(value));
    options->listen_paths.push_back(std::move(path));
  } else if (flag == "--metrics") {
    PBKFS_ASSIGN_OR_RETURN(options->metrics_address, ParseMetrics(value));
    options->metrics_required = true;
  } else if (flag == "--state-dir") {
    PBKFS_ASSIGN_OR_RETURN(options->state_directory, ParseDirectory(flag, value));
  } else if (flag == "--allow-root") {
    PBKFS_ASSIGN_OR_RETURN(std::string root, ParseDirectory(flag, value));
    options->allowed_roots.push_back(std::move(root));
  } else if (flag == "--stats-interval") {
    PBKFS_ASSIGN_OR_RETURN(options->stats_interval, ParseInterval(value));
  } else if (flag == "--log-level") {
    options->log_level = value;
  } else if (flag == "--log-format") {
    if (value != "text" && value != "json") {
      return Usage(absl::StrCat("--log-format ", value, ": use text or json"));
    }
    options->log_format = value == "json" ? LogFormat::kJson : LogFormat::kText;
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
       {"--listen", "--metrics", "--state-dir", "--allow-root", "--stats-interval", "--log-level",
        "--log-format", "--restart-limit", "--worker-socket", "--keeper-state",
        "--check-handover"}) {
    if (flag == known) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<DaemonOptions> ParseDaemonOptions(const std::vector<std::string>& arguments) {
  DaemonOptions options;
  options.metrics_address = std::string(kDefaultMetrics);
  options.state_directory = std::string(kDefaultStateDirectory);
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
  if (options.listen_paths.empty()) options.listen_paths.emplace_back(kDefaultSocket);
  return options;
}

absl::string_view DaemonHelp() {
  return R"(pbkfsd: mounts pg_probackup backups as writable PostgreSQL data directories

  pbkfsd [OPTION]...

  --listen unix:PATH     socket of the API; may be repeated (unix:/run/pbkfs/pbkfsd.sock)
  --metrics HOST:PORT    Prometheus metrics at /metrics, or 'off' (127.0.0.1:9467)
  --state-dir DIR        where diffs go that a request does not place (/var/lib/pbkfs)
  --allow-root DIR       catalogs, targets and diffs may lie below DIR; may be repeated.
                         Without it only the state directory may be used.
  --no-keeper            serve mounts in this process: they end if it dies
  --restart-limit N      workers that may die within a minute before mounts end with errors (100)
  --stats-interval D     log the I/O of each mount this often: 60s, 5m, 0 = never (60s)
  --log-level L          trace, debug, info, warn or error (info)
  --log-format F         text or json (text)
  --version              print the version
  --help                 print this

SIGTERM and SIGINT unmount everything and stop; mounts that are in use are waited for, until a
second signal detaches them. SIGUSR2 goes over to the program that is now on the disk.

Example:
  pbkfsd --allow-root /backup --allow-root /srv/clones
  pbkfs mount --store /backup --instance main --target /srv/clones/a
)";
}

}  // namespace pbkfs
