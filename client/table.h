// Tables and colours of what is printed for people.
//
// Names come from catalogs and clients and may hold anything: control characters are shown as
// escapes, so that none reaches a terminal, and columns are as wide as a terminal shows them.
#ifndef PBKFS_CLIENT_TABLE_H_
#define PBKFS_CLIENT_TABLE_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace pbkfs::client {

enum class Style { kPlain, kHeader, kGood, kWarning, kBad };

// Paints text where the output is a terminal that takes colours; elsewhere it changes nothing.
class Palette {
 public:
  explicit Palette(bool colours = false) : colours_(colours) {}
  std::string Paint(Style style, absl::string_view text) const;

 private:
  bool colours_;
};

struct Cell {
  // NOLINTNEXTLINE(google-explicit-constructor): a row of texts is a row of cells.
  Cell(std::string cell_text, Style cell_style = Style::kPlain, bool is_number = false)
      : text(std::move(cell_text)), style(cell_style), number(is_number) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  Cell(const char* cell_text) : text(cell_text) {}

  std::string text;
  Style style = Style::kPlain;
  bool number = false;  // Aligned to the right.
};

// Columns padded to their widest cell, two spaces apart; the last column is not padded. The first
// row is the header. A cell that is very wide moves the rest of its own row only.
std::string FormatTable(const std::vector<std::vector<Cell>>& rows, const Palette& palette);
std::string FormatTable(const std::vector<std::vector<std::string>>& rows);
// Names and values, without a header.
std::string FormatFacts(const std::vector<std::pair<std::string, Cell>>& facts,
                        const Palette& palette);

// With escapes for control characters.
std::string Printable(absl::string_view text);
// Columns that a terminal takes for it.
size_t DisplayWidth(absl::string_view text);
bool IsUtf8(absl::string_view text);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_TABLE_H_
