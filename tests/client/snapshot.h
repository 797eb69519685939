// Texts that people read, compared with files beside the tests: a change of one shows in review.
#ifndef PBKFS_TESTS_CLIENT_SNAPSHOT_H_
#define PBKFS_TESTS_CLIENT_SNAPSHOT_H_

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "gtest/gtest.h"

namespace pbkfs::client {

// `name` is a file in tests/client/snapshots. With PBKFS_UPDATE_SNAPSHOTS=1 it is written instead.
inline void ExpectSnapshot(const std::string& name, const std::string& text) {
  const std::string path = std::string(PBKFS_SNAPSHOT_DIR) + "/" + name;
  if (getenv("PBKFS_UPDATE_SNAPSHOTS") != nullptr) {
    std::ofstream(path, std::ios::trunc) << text;
    return;
  }
  std::ifstream file(path);
  std::ostringstream expected;
  expected << file.rdbuf();
  EXPECT_EQ(expected.str(), text) << path << " differs; where that is meant, run this test again "
                                  << "with PBKFS_UPDATE_SNAPSHOTS=1";
}

}  // namespace pbkfs::client

#endif  // PBKFS_TESTS_CLIENT_SNAPSHOT_H_
