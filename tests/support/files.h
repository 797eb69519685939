// File helpers of the catalog writer. Every failure is fatal (fatal.h), except where a missing file
// is an answer.
#ifndef PBKFS_TESTS_SUPPORT_FILES_H_
#define PBKFS_TESTS_SUPPORT_FILES_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pbkfs::testsupport {

// Nothing where the file does not exist.
std::optional<std::string> ReadFileIfExists(const std::string& path);
std::string ReadWholeFile(const std::string& path);
// Creates or replaces `path` with exactly `mode`, whatever the umask. Runs of zero blocks become
// holes.
void WriteWholeFile(const std::string& path, std::string_view bytes, mode_t mode);
// Writes `path`.tmp and renames it over `path`, so that a reader never sees half a file.
void ReplaceFile(const std::string& path, std::string_view bytes, mode_t mode);
// Creates `path` and its missing parents with `mode`.
void MakeDirectories(const std::string& path, mode_t mode);
// Names in a directory without "." and "..", sorted. Nothing where it does not exist.
std::vector<std::string> ListDirectory(const std::string& path);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_FILES_H_
