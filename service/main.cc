// pbkfsd. Exit codes: 0 stopped by a signal, 1 failed, 2 wrong usage.
#include <cstdio>
#include <string>
#include <vector>

#include "service/daemon.h"
#include "service/lock_holder.h"
#include "service/logging.h"
#include "service/options.h"

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == pbkfs::kLockHolderFlag) {
    return pbkfs::RunLockHolder(std::vector<std::string>(argv + 2, argv + argc));
  }
  const absl::StatusOr<pbkfs::DaemonOptions> options =
      pbkfs::ParseDaemonOptions(std::vector<std::string>(argv + 1, argv + argc));
  absl::Status status = options.status();
  if (status.ok() && options->show_help) {
    fputs(std::string(pbkfs::DaemonHelp()).c_str(), stdout);
    return 0;
  }
  if (status.ok() && options->show_version) {
    puts("pbkfsd " PBKFS_VERSION);
    return 0;
  }
  if (status.ok()) status = pbkfs::SetUpLogging(options->log_level, options->log_format);
  if (!status.ok()) {
    fprintf(stderr, "pbkfsd: %s\n", std::string(status.message()).c_str());
    return 2;
  }
  pbkfs::BlockStopSignals();
  status = pbkfs::RunDaemon(*options);
  if (!status.ok()) {
    fprintf(stderr, "pbkfsd: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  return 0;
}
