// Runs one command against the daemon.
#ifndef PBKFS_CLIENT_COMMANDS_H_
#define PBKFS_CLIENT_COMMANDS_H_

#include <ostream>
#include <string>
#include <vector>

#include "client/terminal.h"

namespace pbkfs::client {

// The whole program but for its process: prints to the streams, returns the exit code. `words`
// without the program's name.
int RunClient(const std::vector<std::string>& words, const Surroundings& surroundings,
              std::ostream& out, std::ostream& err);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_COMMANDS_H_
