#include "fs/image/pglz.h"

#include <algorithm>
#include <cstring>

namespace pbkfs {
namespace {

// Repeats the `offset` bytes before `to` for `length` bytes. `room` is what may be written at `to`.
inline void CopyReference(uint8_t* to, size_t offset, size_t length, size_t room) {
  const uint8_t* from = to - offset;
  // Steps of 16 or 8 bytes may write past `length`; what follows overwrites it.
  if (offset >= 16 && length + 16 <= room) {
    for (size_t done = 0; done < length; done += 16) memcpy(to + done, from + done, 16);
  } else if (offset >= 8 && length + 8 <= room) {
    for (size_t done = 0; done < length; done += 8) memcpy(to + done, from + done, 8);
  } else if (offset == 1) {
    memset(to, *from, length);
  } else {
    for (size_t i = 0; i < length; ++i) to[i] = from[i];
  }
}

}  // namespace

bool PglzDecode(absl::Span<const uint8_t> in, absl::Span<uint8_t> out) {
  const uint8_t* source = in.data();
  const uint8_t* const source_end = source + in.size();
  uint8_t* to = out.data();
  uint8_t* const begin = to;
  uint8_t* const end = to + out.size();

  while (source < source_end && to < end) {
    unsigned control = *source++;
    if (control == 0 && source_end - source >= 8 && end - to >= 8) {
      memcpy(to, source, 8);
      source += 8;
      to += 8;
      continue;
    }
    for (int item = 0; item < 8 && source < source_end && to < end; ++item, control >>= 1) {
      if ((control & 1) == 0) {
        *to++ = *source++;
        continue;
      }
      if (source_end - source < 2) return false;
      size_t length = (source[0] & 0x0Fu) + 3;
      const size_t offset = (source[0] & 0xF0u) << 4 | source[1];
      source += 2;
      if (length == 18) {
        if (source == source_end) return false;
        length += *source++;
      }
      if (offset == 0 || offset > static_cast<size_t>(to - begin)) return false;
      const auto room = static_cast<size_t>(end - to);
      length = std::min(length, room);
      CopyReference(to, offset, length, room);
      to += length;
    }
  }
  return to == end && source == source_end;
}

}  // namespace pbkfs
