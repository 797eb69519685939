// pbkfs, the command line client of pbkfsd.
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <system_error>
#include <vector>

#include "client/commands.h"

int main(int argc, char** argv) {
  const char* address = getenv("PBKFS_ADDRESS");
  std::error_code error;
  const std::string directory = std::filesystem::current_path(error).string();
  return pbkfs::client::RunClient(std::vector<std::string>(argv + 1, argv + argc),
                                  address == nullptr ? "" : address,
                                  error ? std::string("/") : directory, std::cout, std::cerr);
}
