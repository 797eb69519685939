// A directory that goes away with its contents at the end of a test.
#ifndef PBKFS_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_
#define PBKFS_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_

#include <cstdlib>
#include <filesystem>
#include <string>

namespace pbkfs::testsupport {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "pbkfs-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_
