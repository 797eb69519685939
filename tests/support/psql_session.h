// One psql process that is spoken to through pipes. pg_backup_start and pg_backup_stop must come
// from one session, and the catalog writer has no libpq.
#ifndef PBKFS_TESTS_SUPPORT_PSQL_SESSION_H_
#define PBKFS_TESTS_SUPPORT_PSQL_SESSION_H_

#include <sys/types.h>

#include <cstdio>
#include <string>
#include <vector>

namespace pbkfs::testsupport {

// Not thread safe. A failing query ends the process (fatal.h); psql has then said why on stderr.
class PsqlSession {
 public:
  // `command` is a shell command like "psql -h DIR -p PORT -U postgres -d postgres"; options that
  // make the output readable are added to it. SIGPIPE must be ignored.
  explicit PsqlSession(const std::string& command);
  ~PsqlSession();
  PsqlSession(const PsqlSession&) = delete;
  PsqlSession& operator=(const PsqlSession&) = delete;

  // Rows of one query; columns are separated by '|'. No value may contain a line end: encode it in
  // the query.
  std::vector<std::string> Rows(const std::string& query);
  // The only row of a query.
  std::string Value(const std::string& query);

 private:
  const std::string command_;
  pid_t pid_ = -1;
  FILE* to_psql_ = nullptr;
  FILE* from_psql_ = nullptr;
};

// The bytes behind the hex digits that encode(…, 'hex') returned.
std::string DecodeHex(const std::string& hex);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_PSQL_SESSION_H_
