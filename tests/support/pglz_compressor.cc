#include "tests/support/pglz_compressor.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <vector>

namespace pbkfs::testsupport {
namespace {

constexpr size_t kMinMatch = 3;
constexpr size_t kMaxMatch = 273;    // 3 + 15, and one more byte of length
constexpr size_t kMaxOffset = 4095;  // 12 bits
constexpr size_t kItemsPerControl = 8;
// Positions tried for one match. More finds little: rows of a page resemble their nearest
// neighbours.
constexpr int kMaxChain = 32;
constexpr size_t kHashSize = 4096;

struct Match {
  size_t length = 0;
  size_t offset = 0;
};

// Remembers where each three-byte prefix occurred.
class History {
 public:
  explicit History(std::string_view input) : input_(input), previous_(input.size(), -1) {
    head_.fill(-1);
  }

  Match Find(size_t position) const {
    Match best;
    if (position + kMinMatch > input_.size()) return best;
    const size_t limit = std::min(kMaxMatch, input_.size() - position);
    int32_t candidate = head_[Hash(position)];
    for (int tries = 0; candidate >= 0 && tries < kMaxChain; ++tries) {
      const size_t offset = position - static_cast<size_t>(candidate);
      if (offset > kMaxOffset) break;
      size_t length = 0;
      while (length < limit && input_[candidate + length] == input_[position + length]) ++length;
      if (length > best.length) best = {length, offset};
      if (best.length == limit) break;
      candidate = previous_[candidate];
    }
    return best.length >= kMinMatch ? best : Match{};
  }

  void Insert(size_t position) {
    if (position + kMinMatch > input_.size()) return;
    int32_t& head = head_[Hash(position)];
    previous_[position] = head;
    head = static_cast<int32_t>(position);
  }

 private:
  size_t Hash(size_t position) const {
    const auto byte = [&](size_t i) { return static_cast<uint8_t>(input_[position + i]); };
    return ((byte(0) << 8 ^ byte(1) << 4 ^ byte(2)) * 2654435761u >> 12) % kHashSize;
  }

  std::string_view input_;
  std::array<int32_t, kHashSize> head_;
  std::vector<int32_t> previous_;
};

void AppendMatch(const Match& match, std::string& output) {
  const size_t short_length = std::min<size_t>(match.length - kMinMatch, 15);
  output += static_cast<char>((match.offset >> 8) << 4 | short_length);
  output += static_cast<char>(match.offset & 0xFF);
  if (short_length == 15) output += static_cast<char>(match.length - kMinMatch - 15);
}

}  // namespace

std::string PglzCompress(std::string_view input) {
  assert(input.size() <= 65536);
  History history(input);
  std::string output;
  size_t control = 0;  // Where the control byte of the current eight items stands.
  size_t items = kItemsPerControl;
  size_t position = 0;
  while (position < input.size()) {
    if (items == kItemsPerControl) {
      control = output.size();
      output += '\0';
      items = 0;
    }
    const Match match = history.Find(position);
    const size_t length = std::max<size_t>(match.length, 1);
    if (match.length == 0) {
      output += input[position];
    } else {
      output[control] = static_cast<char>(output[control] | 1 << items);
      AppendMatch(match, output);
    }
    for (size_t i = 0; i < length; ++i) history.Insert(position + i);
    position += length;
    ++items;
  }
  return output;
}

}  // namespace pbkfs::testsupport
