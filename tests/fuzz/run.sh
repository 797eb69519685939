#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each for a while, starting from its committed seeds.
# What a run finds goes to <build directory>/found; a crash fails the script and prints the command that replays it.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: tests/fuzz/run.sh [--seconds N] [--build-dir DIR] [TARGET...]
  --seconds N      time for each target (default 15)
  --build-dir DIR  default: build-fuzz beside the sources
  TARGET           names of corpus directories (default: all)
USAGE
}

# run_target TARGET SECONDS BUILD SOURCE
run_target() {
  local target=$1 seconds=$2 build=$3 source=$4 status=0 output
  local found=$build/found/$target
  mkdir -p "$found"
  output=$("$build/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -max_len=70000 -timeout=10 -rss_limit_mb=1024 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="$found/" "$found" "$source/tests/fuzz/corpus/$target" 2>&1) ||
    status=$?
  printf 'fuzz_%s: %s s\n%s\n' "$target" "$seconds" "$output"
  return "$status"
}

main() {
  local source seconds=15 build targets=()
  source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
  build=$source/build-fuzz
  while (($# > 0)); do
    case $1 in
      --seconds) seconds=$2 && shift 2 ;;
      --build-dir) build=$2 && shift 2 ;;
      -h | --help) usage && exit 0 ;;
      -*) usage >&2 && exit 2 ;;
      *) targets+=("$1") && shift ;;
    esac
  done
  if ((${#targets[@]} == 0)); then
    local directory
    for directory in "$source"/tests/fuzz/corpus/*/; do
      directory=${directory%/}
      targets+=("${directory##*/}")
    done
  fi

  local launcher=()
  command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=clang \
    -DCMAKE_CXX_COMPILER=clang++ -DPBKFS_FUZZ=ON -DPBKFS_SERVICE=OFF "${launcher[@]}" >/dev/null
  cmake --build "$build" --target "${targets[@]/#/fuzz_}"

  : >"$build/failed"
  # One target a core; what a target prints comes out together, when it ends.
  local target failed=()
  export -f run_target
  printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'run_target "$@" || echo "{}" >>"$0"' \
    "$build/failed" {} "$seconds" "$build" "$source"
  mapfile -t failed <"$build/failed"
  if ((${#failed[@]} > 0)); then
    echo "Crashes: ${failed[*]}. Replay: $build/tests/fuzz/fuzz_TARGET $build/found/TARGET/crash-*" >&2
    exit 1
  fi
}

main "$@"
