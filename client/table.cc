#include "client/table.h"

#include <locale.h>
#include <wchar.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace pbkfs::client {
namespace {

using Row = std::vector<Cell>;

// Most names and all figures fit; a path of a thousand characters does not push everything away.
constexpr size_t kMaxColumnWidth = 48;
constexpr size_t kColumnGap = 2;

// How wide characters are is the C library's knowledge, which it has only in a UTF-8 locale,
// whatever the user's own is. Null where there is none.
locale_t Utf8Locale() {
  static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  return locale;
}

absl::string_view Escape(Style style) {
  switch (style) {
    case Style::kHeader:
      return "\033[1m";
    case Style::kGood:
      return "\033[32m";
    case Style::kWarning:
      return "\033[33m";
    case Style::kBad:
      return "\033[31m";
    case Style::kPlain:
      break;
  }
  return "";
}

void AppendRow(const Row& row, const std::vector<size_t>& widths, bool header,
               const Palette& palette, std::string* text) {
  for (size_t i = 0; i < row.size(); ++i) {
    const std::string cell = Printable(row[i].text);
    const size_t width = DisplayWidth(cell);
    const std::string padding(widths[i] > width ? widths[i] - width : 0, ' ');
    if (row[i].number) *text += padding;
    *text += palette.Paint(header ? Style::kHeader : row[i].style, cell);
    if (i + 1 == row.size()) break;
    if (!row[i].number) *text += padding;
    text->append(kColumnGap, ' ');
  }
  *text += '\n';
}

std::vector<size_t> WidthsOf(const std::vector<Row>& rows) {
  std::vector<size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) {
      const size_t width = DisplayWidth(Printable(row[i].text));
      if (width <= kMaxColumnWidth) widths[i] = std::max(widths[i], width);
    }
  }
  return widths;
}

}  // namespace

std::string Palette::Paint(Style style, absl::string_view text) const {
  if (!colours_ || style == Style::kPlain || text.empty()) return std::string(text);
  return absl::StrCat(Escape(style), text, "\033[0m");
}

std::string FormatTable(const std::vector<Row>& rows, const Palette& palette) {
  const std::vector<size_t> widths = WidthsOf(rows);
  std::string text;
  for (size_t i = 0; i < rows.size(); ++i) AppendRow(rows[i], widths, i == 0, palette, &text);
  return text;
}

std::string FormatTable(const std::vector<std::vector<std::string>>& rows) {
  std::vector<Row> cells;
  for (const std::vector<std::string>& row : rows) cells.emplace_back(row.begin(), row.end());
  return FormatTable(cells, Palette());
}

std::string FormatFacts(const std::vector<std::pair<std::string, Cell>>& facts,
                        const Palette& palette) {
  std::vector<Row> rows;
  for (const auto& [name, value] : facts) rows.push_back({Cell(name, Style::kHeader), value});
  const std::vector<size_t> widths = WidthsOf(rows);
  std::string text;
  for (const Row& row : rows) AppendRow(row, widths, false, palette, &text);
  return text;
}

std::string Printable(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if (byte == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      absl::StrAppendFormat(&out, "\\x%02x", byte);
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {
      // The control characters U+0080 to U+009F; some terminals obey them.
      absl::StrAppendFormat(&out, "\\x%02x", next);
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

size_t DisplayWidth(absl::string_view text) {
  if (Utf8Locale() == nullptr) return text.size();
  const locale_t previous = uselocale(Utf8Locale());
  size_t width = 0;
  mbstate_t state = {};
  while (!text.empty()) {
    wchar_t character = 0;
    const size_t bytes = mbrtowc(&character, text.data(), text.size(), &state);
    if (bytes == 0 || bytes > text.size()) {
      // No character: a terminal shows something in its place.
      state = {};
      ++width;
      text.remove_prefix(1);
      continue;
    }
    const int columns = wcwidth(character);
    width += columns < 0 ? 1 : static_cast<size_t>(columns);
    text.remove_prefix(bytes);
  }
  uselocale(previous);
  return width;
}

bool IsUtf8(absl::string_view text) {
  if (Utf8Locale() == nullptr) return true;
  const locale_t previous = uselocale(Utf8Locale());
  mbstate_t state = {};
  bool valid = true;
  while (valid && !text.empty()) {
    const size_t bytes = mbrtowc(nullptr, text.data(), text.size(), &state);
    valid = bytes > 0 && bytes <= text.size();
    if (valid) text.remove_prefix(bytes);
  }
  uselocale(previous);
  return valid;
}

}  // namespace pbkfs::client
