// pbkfsd. Exit codes: 0 stopped by a signal, 1 failed, 2 wrong usage.
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "service/daemon.h"
#include "service/keeper/keeper.h"
#include "service/lock_holder.h"
#include "service/logging.h"
#include "service/options.h"

namespace {

std::string ReadAll(int fd) {
  std::string text;
  char bytes[4096];
  ssize_t count;
  lseek(fd, 0, SEEK_SET);
  while ((count = read(fd, bytes, sizeof(bytes))) > 0) {
    text.append(bytes, static_cast<size_t>(count));
  }
  return text;
}

int RunKeeper(const pbkfs::DaemonOptions& options, std::vector<std::string> arguments) {
  pbkfs::KeeperOptions keeper_options;
  for (std::string& argument : arguments) {
    if (argument.rfind(pbkfs::kHandoverFlag, 0) == 0) continue;
    keeper_options.arguments.push_back(std::move(argument));
  }
  keeper_options.listen_paths = options.listen_paths;
  keeper_options.max_deaths = options.restart_limit;
  std::string handover;
  if (options.keeper_state >= 0) {
    handover = ReadAll(options.keeper_state);
    close(options.keeper_state);
  }
  const absl::StatusOr<std::unique_ptr<pbkfs::Keeper>> keeper =
      pbkfs::Keeper::Create(keeper_options, handover);
  if (keeper.ok()) return (*keeper)->Run();
  fprintf(stderr, "pbkfsd: %s\n", std::string(keeper.status().message()).c_str());
  return 1;
}

}  // namespace

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
  if (status.ok() && !options->handover_versions.empty()) {
    return options->handover_versions == pbkfs::HandoverVersions() ? 0 : 1;
  }
  if (status.ok()) status = pbkfs::SetUpLogging(options->log_level, options->log_format);
  if (!status.ok()) {
    fprintf(stderr, "pbkfsd: %s\n", std::string(status.message()).c_str());
    return 2;
  }
  if (!options->no_keeper && options->worker_socket < 0) {
    return RunKeeper(*options, std::vector<std::string>(argv, argv + argc));
  }
  pbkfs::BlockDaemonSignals();
  status = pbkfs::RunDaemon(*options);
  if (!status.ok()) {
    fprintf(stderr, "pbkfsd: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  return 0;
}
