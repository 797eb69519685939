#!/usr/bin/env bash
# Makes a release of what is checked out: a tarball for /usr/local, a Debian package, and their SHA-256 sums. The same
# commit and the same packages of Debian give the same bytes.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: deploy/release.sh [--build-dir DIR] [--output DIR]
  --build-dir DIR  default: ./build-release
  --output DIR     default: ./dist; what is there of this version is replaced
environment:
  SOURCE_DATE_EPOCH  the time in the archives; default: that of the commit
USAGE
}

fail() {
  printf 'release: %s\n' "$*" >&2
  exit 1
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build_dir=$root/build-release
output=$root/dist
while (($# > 0)); do
  case $1 in
    --build-dir) build_dir=$(realpath -m "${2:?}") && shift ;;
    --output) output=$(realpath -m "${2:?}") && shift ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done
cd "$root"

version=$(sed -n 's/^project(pbkfs VERSION \([0-9.]*\) .*/\1/p' CMakeLists.txt)
arch=$(dpkg --print-architecture)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
umask 022

# A tag of the commit must be that of the version.
check_tags() {
  local tag
  for tag in $(git tag --points-at HEAD --list 'v[0-9]*'); do
    [[ $tag == "v$version" ]] ||
      fail "the commit has the tag $tag, and CMakeLists.txt the version $version. Change one of them."
  done
}

build() {
  local options=(-DPBKFS_STATIC=ON -DPBKFS_TESTS=OFF -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_INSTALL_PREFIX=/usr)
  if command -v ccache >/dev/null; then options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  cmake -S . -B "$build_dir" -G Ninja "${options[@]}"
  cmake --build "$build_dir" --parallel "$(nproc)"
}

# Our licence and those of every package that a library was taken from.
write_copyright() {
  local library package
  echo "pbkfs is under the Apache License 2.0: see LICENSE, and /usr/share/common-licenses/Apache-2.0 on Debian."
  echo "The programs contain, or come with, libraries of the Debian packages below."
  {
    cat "$build_dir/archives.txt"
    for library in "$1"/usr/lib/pbkfs/*.so*; do
      ldconfig -p | awk -v name="${library##*/}" '$1 == name && !seen++ { print $NF }'
    done
  } | while read -r library; do
    # Debian's database knows files of /lib as such.
    dpkg-query -S "$(realpath "$library")" 2>/dev/null || dpkg-query -S "$(realpath "$library" | sed 's|^/usr||')"
  done | sed 's/:.*//' | sort -u | while read -r package; do
    printf '\n==== %s %s ====\n' "$package" "$(dpkg-query --show --showformat='${Version}' "$package")"
    cat "/usr/share/doc/$package/copyright"
  done
}

install_files() {
  local doc=$1/usr/share/doc/pbkfs
  DESTDIR=$1 cmake --install "$build_dir" >/dev/null
  write_copyright "$1" >"$doc/copyright"
  install -d "$1/usr/share/bash-completion/completions" "$1/usr/share/zsh/vendor-completions"
  "$build_dir/client/pbkfs" completion bash >"$1/usr/share/bash-completion/completions/pbkfs"
  "$build_dir/client/pbkfs" completion zsh >"$1/usr/share/zsh/vendor-completions/_pbkfs"
}

# make_tarball STAGED: bin, lib, etc and share, with the unit of an installation in /usr/local.
make_tarball() {
  local name=pbkfs-$version-linux-$(uname -m)
  cp -a "$1/usr" "$stage/$name"
  cp -a "$1/etc" "$stage/$name/etc"
  sed -i 's|/usr/bin/pbkfsd|/usr/local/bin/pbkfsd|; s|/etc/pbkfs|/usr/local/etc/pbkfs|' \
    "$stage/$name/lib/systemd/system/pbkfsd.service"
  tar --create --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --directory="$stage" "$name" |
    gzip -9n >"$output/$name.tar.gz"
}

# The newest version of libc's symbols that something staged asks for.
libc_version() {
  find "$1/usr/bin" "$1/usr/lib/pbkfs" -type f -exec objdump -T {} + | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' |
    sort -uV | tail -n 1
}

# make_deb STAGED: adds the control files to it.
make_deb() {
  install -d "$1/DEBIAN"
  cat >"$1/DEBIAN/control" <<CONTROL
Package: pbkfs
Version: $version
Architecture: $arch
Maintainer: pbkfs <pbkfs@localhost>
Section: database
Priority: optional
Depends: libc6 (>= $(libc_version "$1")), fuse3
Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$1" | cut -f 1)
Description: PostgreSQL backups as writable data directories
 pbkfsd mounts backups of pg_probackup without restoring them: PostgreSQL reads its
 pages from the backup and writes into a copy-on-write layer. pbkfs is its client.
CONTROL
  (cd "$1" && find etc -type f -printf '/%p\n') >"$1/DEBIAN/conffiles"
  (cd "$1" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$1/DEBIAN/md5sums"
  install -m 755 deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm "$1/DEBIAN/"
  dpkg-deb --root-owner-group -Zxz --build "$1" "$output/pbkfs_${version}_$arch.deb" >/dev/null
}

[[ -n $version ]] || fail "CMakeLists.txt has no line 'project(pbkfs VERSION …'."
if [[ -e .git ]]; then
  check_tags
  : "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
fi
[[ -n ${SOURCE_DATE_EPOCH:-} ]] || fail "this is no git checkout: set SOURCE_DATE_EPOCH, the time in the archives."
export SOURCE_DATE_EPOCH
build
install_files "$stage/deb"
mkdir -p "$output"
make_tarball "$stage/deb"
make_deb "$stage/deb"
(cd "$output" && sha256sum "pbkfs-$version-linux-$(uname -m).tar.gz" "pbkfs_${version}_$arch.deb" >SHA256SUMS && cat SHA256SUMS)
