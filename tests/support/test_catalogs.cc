#include "tests/support/test_catalogs.h"

#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>

#include "tests/support/temporary_directory.h"

extern char** environ;

namespace pbkfs::testsupport {
namespace {

namespace fs = std::filesystem;

bool Unpack(const std::string& archive, const std::string& directory) {
  std::string arguments[] = {"tar", "--zstd", "-xf", archive, "-C", directory};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t child;
  if (posix_spawnp(&child, "tar", nullptr, nullptr, argv.data(), environ) != 0) return false;
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// <directory>/<name>/catalog/backups, one level down.
void Collect(const fs::path& directory, std::vector<TestCatalog>& catalogs) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, ignored)) {
    const fs::path catalog = entry.path() / "catalog";
    if (!fs::is_directory(catalog / "backups", ignored)) continue;
    const fs::path golden = entry.path() / "golden";
    catalogs.push_back({entry.path().filename(), catalog,
                        fs::is_directory(golden, ignored) ? golden.string() : std::string()});
  }
}

struct Found {
  std::unique_ptr<TemporaryDirectory> unpacked;
  std::vector<TestCatalog> catalogs;
  std::string problem;
};

Found Find() {
  Found found;
  const char* directory = getenv("PBKFS_TEST_CATALOGS");
  if (directory == nullptr || *directory == 0) {
    found.problem = "PBKFS_TEST_CATALOGS is not set; set it to a directory with real catalogs";
    return found;
  }
  Collect(directory, found.catalogs);
  if (found.catalogs.empty()) {
    std::error_code ignored;
    for (const fs::directory_entry& entry : fs::directory_iterator(directory, ignored)) {
      const std::string name = entry.path().filename();
      if (name.size() < 8 || name.substr(name.size() - 8) != ".tar.zst") continue;
      if (found.unpacked == nullptr) found.unpacked = std::make_unique<TemporaryDirectory>();
      if (!Unpack(entry.path(), found.unpacked->path())) found.problem = "tar failed on " + name;
    }
    if (found.unpacked != nullptr) Collect(found.unpacked->path(), found.catalogs);
  }
  if (found.catalogs.empty() && found.problem.empty()) {
    found.problem = std::string("PBKFS_TEST_CATALOGS=") + directory + " holds no catalogs";
  }
  std::sort(found.catalogs.begin(), found.catalogs.end(),
            [](const TestCatalog& a, const TestCatalog& b) { return a.name < b.name; });
  return found;
}

}  // namespace

const std::vector<TestCatalog>& FindTestCatalogs(std::string& problem) {
  static const Found found = Find();
  problem = found.problem;
  return found.catalogs;
}

}  // namespace pbkfs::testsupport
