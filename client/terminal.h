// What the client runs in: where it is, and what takes its output.
#ifndef PBKFS_CLIENT_TERMINAL_H_
#define PBKFS_CLIENT_TERMINAL_H_

#include <string>

namespace pbkfs::client {

struct Surroundings {
  std::string address;         // PBKFS_ADDRESS; "" = not set.
  std::string directory;       // Relative paths are taken from here.
  bool colours = false;        // stdout is a terminal that takes colours.
  bool live_progress = false;  // stderr is a terminal on which a line can be written again.
};

// Of this process. NO_COLOR and TERM=dumb are respected.
Surroundings TakeSurroundings();

// Columns of the terminal that is stderr; 80 where it does not say.
int ErrorColumns();

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_TERMINAL_H_
