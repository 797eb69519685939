#include "client/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace pbkfs::client {
namespace {

std::string Variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace

Surroundings TakeSurroundings() {
  Surroundings surroundings;
  surroundings.address = Variable("PBKFS_ADDRESS");
  std::error_code error;
  const std::string directory = std::filesystem::current_path(error).string();
  surroundings.directory = error ? std::string("/") : directory;
  const std::string term = Variable("TERM");
  const bool capable = !term.empty() && term != "dumb";
  surroundings.colours = capable && Variable("NO_COLOR").empty() && isatty(STDOUT_FILENO) == 1;
  surroundings.live_progress = capable && isatty(STDERR_FILENO) == 1;
  return surroundings;
}

int ErrorColumns() {
  struct winsize size = {};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace pbkfs::client
