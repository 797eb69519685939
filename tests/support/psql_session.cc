#include "tests/support/psql_session.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/support/fatal.h"

namespace pbkfs::testsupport {
namespace {

// Unaligned, tuples only, quiet, no psqlrc, end at the first error.
constexpr char kOptions[] = " -X -q -A -t -v ON_ERROR_STOP=1";
// A row that no query of ours returns: it shows where an answer ends.
constexpr char kEndOfAnswer[] = "end of the answer";

}  // namespace

PsqlSession::PsqlSession(const std::string& command) : command_("exec " + command + kOptions) {
  int input[2];
  int output[2];
  if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0) FatalErrno("make", "a pipe");
  pid_ = fork();
  if (pid_ < 0) FatalErrno("fork for", command);
  if (pid_ == 0) {
    dup2(input[0], STDIN_FILENO);
    dup2(output[1], STDOUT_FILENO);
    execl("/bin/sh", "sh", "-c", command_.c_str(), nullptr);
    _exit(127);
  }
  close(input[0]);
  close(output[1]);
  to_psql_ = fdopen(input[1], "w");
  from_psql_ = fdopen(output[0], "r");
}

PsqlSession::~PsqlSession() {
  fclose(to_psql_);
  fclose(from_psql_);
  waitpid(pid_, nullptr, 0);
}

std::vector<std::string> PsqlSession::Rows(const std::string& query) {
  fprintf(to_psql_, "%s;\nSELECT '%s';\n", query.c_str(), kEndOfAnswer);
  fflush(to_psql_);
  std::vector<std::string> rows;
  char* line = nullptr;
  size_t capacity = 0;
  for (;;) {
    const ssize_t length = getline(&line, &capacity, from_psql_);
    if (length < 0) {
      Fatal("psql ended during \"" + query +
            "\"; its message stands above. The command was: " + command_);
    }
    std::string row(line, static_cast<size_t>(length));
    while (!row.empty() && row.back() == '\n') row.pop_back();
    if (row == kEndOfAnswer) break;
    rows.push_back(std::move(row));
  }
  free(line);
  return rows;
}

std::string PsqlSession::Value(const std::string& query) {
  const std::vector<std::string> rows = Rows(query);
  if (rows.size() != 1) {
    Fatal("\"" + query + "\" returned " + std::to_string(rows.size()) +
          " rows where one was expected");
  }
  return rows[0];
}

std::string DecodeHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 2 <= hex.size(); i += 2) {
    bytes += static_cast<char>(strtoul(hex.substr(i, 2).c_str(), nullptr, 16));
  }
  return bytes;
}

}  // namespace pbkfs::testsupport
