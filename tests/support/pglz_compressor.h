// A compressor for pglz, PostgreSQL's LZ format as section 6.3 of the format description gives it:
// greedy, with hash chains. Its output need not equal PostgreSQL's, only decode to the input.
#ifndef PBKFS_TESTS_SUPPORT_PGLZ_COMPRESSOR_H_
#define PBKFS_TESTS_SUPPORT_PGLZ_COMPRESSOR_H_

#include <string>
#include <string_view>

namespace pbkfs::testsupport {

// `input` is at most 64 KiB. The result can be longer than the input; the caller then stores the
// input raw.
std::string PglzCompress(std::string_view input);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_PGLZ_COMPRESSOR_H_
