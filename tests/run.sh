#!/usr/bin/env bash
# Builds pbkfs and runs its tests on Debian 12. The closing lines are ctest's; the exit status is that of the first step
# that failed.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: tests/run.sh [--full] [--no-install]
  (nothing)      build with the default compiler, run each fuzz target for 15 s and the tests labelled quick
  --full         also build everything with clang (thread-safety analysis as errors) and run the tests labelled quick under
                 AddressSanitizer with UBSan and those of fs/ under ThreadSanitizer, take away one safety step at a time
                 (tests/mutation), and at the end run the tests of all labels
  --no-install   do not call deploy/install-deps.sh
environment:
  PBKFS_BUILD_DIR      build directory (default: ./build); other builds stand beside it as DIR-asan, -tsan, -fuzz
  PBKFS_TEST_CATALOGS  directory of real catalogs; tests that need them are skipped without it
  PBKFS_REQUIRE_ALL=1  a test that cannot run fails instead of being skipped
USAGE
}

step() { printf '==> %s\n' "$*"; }

# configure DIR [cmake options]: a directory that exists keeps its generator.
configure() {
  local dir=$1
  shift
  local options=("$@")
  [[ -f $dir/CMakeCache.txt ]] || options+=(-G Ninja)
  if command -v ccache >/dev/null; then
    options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  fi
  cmake -S "$root" -B "$dir" "${options[@]}"
}

build() { cmake --build "$1" --parallel "$(nproc)"; }

# Some kernels place mappings where the sanitizers' runtime does not expect them; without address randomisation they
# never do. Discovery runs test programs during the build, so the build needs this too.
without_aslr() {
  if command -v setarch >/dev/null && setarch "$(uname -m)" --addr-no-randomize true 2>/dev/null; then
    setarch "$(uname -m)" --addr-no-randomize "$@"
  else
    "$@"
  fi
}

# sanitized_tests SANITIZER DIR SERVICE FOLDER: the tests labelled quick of the build's FOLDER. gRPC and Protobuf are
# Debian's: AddressSanitizer takes containers that they fill for overflown, and ThreadSanitizer sees only fs/ whole. The
# small quarantine leaves the tests of memory something to measure; ten thousand crashes would take longer than a test may.
sanitized_tests() {
  local sanitizer=$1 dir=$2 service=$3 folder=$4
  step "tests with the $sanitizer sanitizer"
  configure "$dir" -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ "-DPBKFS_SERVICE=$service" \
    "-DPBKFS_SANITIZE=$sanitizer"
  without_aslr cmake --build "$dir" --parallel "$(nproc)"
  PBKFS_CRASH_SEEDS=2000 \
    ASAN_OPTIONS=detect_container_overflow=0:quarantine_size_mb=1 UBSAN_OPTIONS=print_stacktrace=1 \
    LSAN_OPTIONS=suppressions=$root/tests/leaks.supp:print_suppressions=0 \
    TSAN_OPTIONS=suppressions=$root/tests/races.supp \
    without_aslr ctest --test-dir "$dir/$folder" --output-on-failure --no-tests=error --parallel "$(nproc)" -L quick
}

full=0
install=1
for argument in "$@"; do
  case $argument in
    --full) full=1 ;;
    --no-install) install=0 ;;
    -h | --help) usage && exit 0 ;;
    *) printf 'run.sh: unknown option %s\n' "$argument" >&2 && usage >&2 && exit 2 ;;
  esac
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build_dir=$(realpath -m "${PBKFS_BUILD_DIR:-$root/build}")
cd "$root"

if ((install)); then
  step "packages"
  "$root/deploy/install-deps.sh"
fi
step "build in $build_dir"
configure "$build_dir"
build "$build_dir"

step "fuzz targets, 15 s each"
without_aslr "$root/tests/fuzz/run.sh" --seconds 15 --build-dir "$build_dir-fuzz"
if ((full)); then
  sanitized_tests address "$build_dir-asan" ON .
  sanitized_tests thread "$build_dir-tsan" OFF tests/fs
  step "mutations"
  /usr/bin/python3 -B "$root/tests/mutation/run.py" --dir "$build_dir-mutation"
  step "all tests"
  labels=()
else
  step "quick tests"
  labels=(-L quick)
fi
exec ctest --test-dir "$build_dir" --output-on-failure --no-tests=error --parallel "$(nproc)" "${labels[@]}"
