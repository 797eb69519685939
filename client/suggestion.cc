#include "client/suggestion.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/match.h"

namespace pbkfs::client {
namespace {

// Words that are longer are no misspelt commands.
constexpr size_t kMaxWord = 64;

// Restricted Damerau-Levenshtein distance.
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<std::vector<size_t>> table(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) table[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) table[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      table[i][j] =
          std::min({table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        table[i][j] = std::min(table[i][j], table[i - 2][j - 2] + 1);
      }
    }
  }
  return table[a.size()][b.size()];
}

}  // namespace

std::string Nearest(absl::string_view word, const std::vector<std::string>& known) {
  if (word.empty() || word.size() > kMaxWord) return "";
  std::string best;
  // A third of a word may be wrong, and one letter of a short one.
  size_t best_distance = std::max<size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const size_t distance = Distance(word, candidate);
    // Letters are forgotten more often than added: "umount" is unmount.
    const bool longer = !best.empty() && candidate.size() > best.size();
    if (distance > best_distance || (distance == best_distance && !longer)) continue;
    best = candidate;
    best_distance = distance;
  }
  if (!best.empty()) return best;
  for (const std::string& candidate : known) {
    if (absl::StartsWith(candidate, word)) return candidate;
  }
  return "";
}

}  // namespace pbkfs::client
