// How the catalog writer ends when it cannot go on: it is a tool for tests and demonstrations,
// whose callers could do nothing about a full disk either.
#ifndef PBKFS_TESTS_SUPPORT_FATAL_H_
#define PBKFS_TESTS_SUPPORT_FATAL_H_

#include <string>

namespace pbkfs::testsupport {

// Prints `message` on stderr and ends the process with status 1.
[[noreturn]] void Fatal(const std::string& message);
// The same with the text of errno: "cannot WHAT PATH: REASON".
[[noreturn]] void FatalErrno(const std::string& what, const std::string& path);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_FATAL_H_
