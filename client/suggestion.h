// The word that somebody meant.
#ifndef PBKFS_CLIENT_SUGGESTION_H_
#define PBKFS_CLIENT_SUGGESTION_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace pbkfs::client {

// The nearest of `known`, by insertions, deletions, changes and swaps of neighbours, or one that
// begins with `word`; "" where none is near.
std::string Nearest(absl::string_view word, const std::vector<std::string>& known);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_SUGGESTION_H_
