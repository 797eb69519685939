// pbkfs, the command line client of pbkfsd.
#include <iostream>
#include <string>
#include <vector>

#include "client/commands.h"
#include "client/terminal.h"

int main(int argc, char** argv) {
  return pbkfs::client::RunClient(std::vector<std::string>(argv + 1, argv + argc),
                                  pbkfs::client::TakeSurroundings(), std::cout, std::cerr);
}
