// Passing errors on. The client shares nothing with the daemon but the API, so it has its own two
// macros.
#ifndef PBKFS_CLIENT_STATUS_MACROS_H_
#define PBKFS_CLIENT_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"

#define CLIENT_RETURN_IF_ERROR(expr)                                \
  do {                                                              \
    if (absl::Status client_status = (expr); !client_status.ok()) { \
      return client_status;                                         \
    }                                                               \
  } while (false)

#define CLIENT_CONCAT_INNER(a, b) a##b
#define CLIENT_CONCAT(a, b) CLIENT_CONCAT_INNER(a, b)
#define CLIENT_ASSIGN_OR_RETURN(lhs, expr) \
  CLIENT_ASSIGN_OR_RETURN_IMPL(CLIENT_CONCAT(client_result_, __LINE__), lhs, expr)
#define CLIENT_ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                                 \
  if (!result.ok()) return std::move(result).status();  \
  lhs = std::move(result).value()

#endif  // PBKFS_CLIENT_STATUS_MACROS_H_
