// pbkfsd. Exit codes: 0 stopped by a signal, 1 failed, 2 wrong usage.
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "service/config_memory.h"
#include "service/configuration.h"
#include "service/daemon.h"
#include "service/keeper/keeper.h"
#include "service/lock_holder.h"
#include "service/logging.h"
#include "service/options.h"
#include "service/state_directory.h"

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

int Fail(const absl::Status& status, int exit_code) {
  fprintf(stderr, "pbkfsd: %s\n", std::string(status.message()).c_str());
  return exit_code;
}

// `memory` is null at the first start.
int RunKeeper(const pbkfs::DaemonOptions& options, const pbkfs::v1::DaemonConfig& config,
              std::unique_ptr<pbkfs::ConfigMemory> memory, std::vector<std::string> arguments) {
  if (memory == nullptr) {
    absl::StatusOr<pbkfs::ConfigMemory> created = pbkfs::ConfigMemory::Create(config);
    if (!created.ok()) return Fail(created.status(), 1);
    memory = std::make_unique<pbkfs::ConfigMemory>(*std::move(created));
  }
  pbkfs::KeeperOptions keeper_options;
  for (std::string& argument : arguments) {
    if (argument.rfind(pbkfs::kHandoverFlag, 0) == 0) continue;
    if (argument.rfind(pbkfs::kConfigMemoryFlag, 0) == 0) continue;
    keeper_options.arguments.push_back(std::move(argument));
  }
  // Workers, and a program that takes over, have the descriptor under the same number.
  keeper_options.arguments.insert(keeper_options.arguments.begin() + 1,
                                  absl::StrCat(pbkfs::kConfigMemoryFlag, memory->descriptor()));
  keeper_options.listen = pbkfs::ListenAddresses(config);
  keeper_options.max_deaths = options.restart_limit;
  std::string handover;
  if (options.keeper_state >= 0) {
    handover = ReadAll(options.keeper_state);
    close(options.keeper_state);
  }
  const absl::StatusOr<std::unique_ptr<pbkfs::Keeper>> keeper =
      pbkfs::Keeper::Create(keeper_options, handover);
  return keeper.ok() ? (*keeper)->Run() : Fail(keeper.status(), 1);
}

// What is in force: from `memory`, or from the file and the command line.
absl::StatusOr<pbkfs::v1::DaemonConfig> ConfigurationOf(const pbkfs::DaemonOptions& options,
                                                        const pbkfs::ConfigMemory* memory) {
  return memory != nullptr ? memory->Read() : pbkfs::LoadConfiguration(options);
}

int Run(const pbkfs::DaemonOptions& options, std::vector<std::string> arguments) {
  std::unique_ptr<pbkfs::ConfigMemory> memory;
  if (options.config_memory >= 0) {
    memory =
        std::make_unique<pbkfs::ConfigMemory>(pbkfs::ConfigMemory::Adopt(options.config_memory));
  }
  absl::StatusOr<pbkfs::v1::DaemonConfig> config = ConfigurationOf(options, memory.get());
  if (!config.ok()) return Fail(config.status(), 2);
  const absl::Status logging = pbkfs::SetUpLogging(
      config->log_level(),
      config->log_format() == "json" ? pbkfs::LogFormat::kJson : pbkfs::LogFormat::kText);
  if (!logging.ok()) return Fail(logging, 2);
  // A worker, and a program that takes over, are of the process that has it.
  if (options.worker_socket < 0 && options.keeper_state < 0) {
    const absl::Status claimed = pbkfs::ClaimStateDirectory(config->state_directory());
    if (!claimed.ok()) return Fail(claimed, 1);
  }
  if (!options.no_keeper && options.worker_socket < 0) {
    return RunKeeper(options, *config, std::move(memory), std::move(arguments));
  }
  if (memory != nullptr) memory->KeepPrivate();
  // What a keeper keeps open for the program after it is no lock holder's business.
  close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  pbkfs::BlockDaemonSignals();
  const absl::Status status = pbkfs::RunDaemon(options, *std::move(config), memory.get());
  return status.ok() ? 0 : Fail(status, 1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == pbkfs::kLockHolderFlag) {
    return pbkfs::RunLockHolder(std::vector<std::string>(argv + 2, argv + argc));
  }
  const absl::StatusOr<pbkfs::DaemonOptions> options =
      pbkfs::ParseDaemonOptions(std::vector<std::string>(argv + 1, argv + argc));
  if (!options.ok()) return Fail(options.status(), 2);
  if (options->show_help) {
    fputs(std::string(pbkfs::DaemonHelp()).c_str(), stdout);
    return 0;
  }
  if (options->show_version) {
    puts("pbkfsd " PBKFS_VERSION);
    return 0;
  }
  if (!options->handover_versions.empty()) {
    return options->handover_versions == pbkfs::HandoverVersions() ? 0 : 1;
  }
  return Run(*options, std::vector<std::string>(argv, argv + argc));
}
