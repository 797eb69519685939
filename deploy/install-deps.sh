#!/usr/bin/env bash
# Installs what pbkfs needs on Debian 12: to build and test it, or with --runtime-only to run it. Needs root and no
# terminal; a second run finds everything in place and returns at once, without the network.
set -euo pipefail

readonly BUILD_PACKAGES=(
  # Tools.
  g++ clang libclang-rt-14-dev cmake ninja-build ccache pkg-config git
  protobuf-compiler protobuf-compiler-grpc
  # Libraries.
  libabsl-dev libcivetweb-dev libdeflate-dev libfuse3-dev libgrpc++-dev liblz4-dev libprotobuf-dev libspdlog-dev libssl-dev
  libzstd-dev prometheus-cpp-dev zlib1g-dev
  # Tests: postgresql-15 brings pgbench, pg_amcheck and the amcheck extension; prometheus brings promtool.
  libgtest-dev libgmock-dev python3 python3-grpcio python3-protobuf e2fsprogs xfsprogs zstd curl openssl
  prometheus strace zsh debootstrap)
readonly RUNTIME_PACKAGES=(
  libabsl20220623 libcivetweb1 libdeflate0 libfuse3-3 libgrpc++1.51 liblz4-1 libprometheus-cpp-core1.0 libprotobuf32
  libspdlog1.10 libssl3 libzstd1 zlib1g)
# What the programs and the scripts beside this one call.
readonly COMMON_PACKAGES=(ca-certificates fuse3 mount postgresql-15 procps util-linux)

readonly CLUSTER_SETTING=/etc/postgresql-common/createcluster.d/pbkfs-install.conf
# Which services may be started by an installation; deb-systemd-invoke(1p) and invoke-rc.d(8) ask it.
readonly POLICY=/usr/sbin/policy-rc.d

usage() {
  cat <<'USAGE'
usage: deploy/install-deps.sh [--runtime-only]
  --runtime-only  only what pbkfsd and pbkfs need to run, and PostgreSQL 15
USAGE
}

fail() {
  printf 'install-deps: %s\n' "$*" >&2
  exit 1
}

is_installed() {
  [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# Sets `missing` to the given packages that are not installed.
find_missing() {
  missing=()
  local package
  for package in "$@"; do
    is_installed "$package" || missing+=("$package")
  done
}

apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"
}

# Debian's PostgreSQL package makes a cluster and starts it on port 5432. Nothing here needs one, and it would be in the
# way of whoever runs PostgreSQL on that port.
prevent_main_cluster() {
  is_installed postgresql-15 && return
  mkdir -p "${CLUSTER_SETTING%/*}"
  trap 'rm -f "$CLUSTER_SETTING"' EXIT
  echo 'create_main_cluster = false' >"$CLUSTER_SETTING"
}

# Tests start their own Prometheus; nobody asked for one on port 9090, now or at the next boot.
prevent_prometheus() {
  is_installed prometheus && return
  [[ -e $POLICY ]] && return
  trap 'rm -f "$CLUSTER_SETTING" "$POLICY"' EXIT
  printf '#!/bin/sh\ncase $1 in prometheus*) exit 101 ;; esac\nexit 0\n' >"$POLICY"
  chmod 755 "$POLICY"
}

disable_prometheus() {
  if command -v systemctl >/dev/null; then systemctl disable prometheus.service >/dev/null 2>&1 || true; fi
}

main() {
  local packages=("${BUILD_PACKAGES[@]}")
  while (($# > 0)); do
    case $1 in
      --runtime-only) packages=("${RUNTIME_PACKAGES[@]}") ;;
      -h | --help) usage && exit 0 ;;
      *) usage >&2 && exit 2 ;;
    esac
    shift
  done
  packages+=("${COMMON_PACKAGES[@]}")

  local missing
  find_missing "${packages[@]}"
  if ((${#missing[@]} == 0)); then
    echo "All ${#packages[@]} packages are installed."
    return
  fi
  ((EUID == 0)) || fail "these packages are missing and only root can install them: ${missing[*]}. Run this as root."
  local VERSION_ID=unknown
  # shellcheck source=/dev/null
  source /etc/os-release
  [[ $VERSION_ID == 12 ]] ||
    fail "this system is '${PRETTY_NAME:-unknown}', and the package names are those of Debian 12." \
      "Install their equivalents by hand: ${missing[*]}"

  echo "Installing: ${missing[*]}"
  prevent_main_cluster
  local with_prometheus=0
  if [[ " ${missing[*]} " == *" prometheus "* ]]; then
    with_prometheus=1
    prevent_prometheus
  fi
  apt update || fail "apt-get update failed (see above). Check the network and /etc/apt/sources.list, then run this again."
  apt install --no-install-recommends "${missing[@]}" ||
    fail "apt-get install failed (see above). Repair with 'dpkg --configure -a', then run this again."
  ((with_prometheus == 0)) || disable_prometheus
  find_missing "${packages[@]}"
  ((${#missing[@]} == 0)) || fail "still missing after the installation: ${missing[*]}. Install them with apt-get."
  echo "Installed."
}

main "$@"
