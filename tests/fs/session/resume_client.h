// What a client of a mount does in the storms: operations in a directory of its own, checked
// against what they must give. Each has exactly one right answer, so that one that is executed
// twice shows.
#ifndef PBKFS_TESTS_FS_SESSION_RESUME_CLIENT_H_
#define PBKFS_TESTS_FS_SESSION_RESUME_CLIENT_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>

namespace pbkfs::testsupport {

// What the clients of a test tell it, in shared memory.
struct ClientProgress {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> operations{0};
  std::array<std::atomic<bool>, 16> in_operation{};  // Of each client.
};

class ResumeClient {
 public:
  // `directory` exists and is empty.
  ResumeClient(std::string directory, uint64_t seed)
      : directory_(std::move(directory)), random_(seed) {}

  // As client number `number`, until it is told to stop. "" or what went wrong.
  std::string Run(ClientProgress* progress, size_t number);

 private:
  std::string Step();
  std::string Create();
  std::string Unlink();
  std::string Rename();
  std::string LinkAndUnlink();
  std::string MakeAndRemoveDirectory();
  std::string MakeAndRemoveSymlink();
  std::string Overwrite();
  std::string Append();
  std::string Truncate();
  std::string Allocate();
  std::string UnlinkedButOpen();
  std::string List();
  std::string CheckAll();

  std::string PathOf(const std::string& name) const { return directory_ + "/" + name; }
  std::string NewName() { return "f" + std::to_string(next_++); }
  std::string AnyFile();
  std::string Content() { return std::to_string(random_()); }

  const std::string directory_;
  std::mt19937_64 random_;
  std::map<std::string, std::string> files_;  // Their content.
  int next_ = 0;
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_FS_SESSION_RESUME_CLIENT_H_
