#!/usr/bin/env bash
# A demonstration in one command, on a fresh Debian 12, as root, without a terminal: builds pbkfs, makes a PostgreSQL with
# pgbench data and backs it up (FULL and DELTA), throws the PostgreSQL away, mounts the DELTA and starts a PostgreSQL on
# the mount. Everything but the build lives in one directory. Run it as often as you like: each run first stops what an
# earlier one left, whole or half-made, and uses its backups again.
set -euo pipefail

readonly MOUNT_ID=demo
readonly PGBIN=/usr/lib/postgresql/15/bin
readonly PORT=5432  # Only part of the socket's name: the servers do not listen on TCP.
readonly STOP_SECONDS=60

usage() {
  cat <<'USAGE'
usage: deploy/quickstart.sh [options]
  --demo-dir DIR    where everything is put (default: /var/tmp/pbkfs-demo)
  --build-dir DIR   build directory (default: ./build of the checkout)
  --scale N         pgbench scale factor (default: 20, a database of 300 MB)
  --no-install      do not call deploy/install-deps.sh
  --catalog-only    stop when the backups are made
  --stop-after      stop everything at the end and remove the demonstration directory
  --clean           only stop everything and remove the demonstration directory
USAGE
}

step() { printf '==> %s\n' "$*"; }

# fail WHAT NEXT-STEP
fail() {
  printf '\nquickstart: %s\n  next: %s\n' "$1" "$2" >&2
  exit 1
}

# logged LOG COMMAND...: output goes to a log, of which the end is shown on failure. The subshell keeps what a trap says
# during a shell function out of the log.
logged() {
  local log=$logs/$1.log
  shift
  if ! ("$@" </dev/null >>"$log" 2>&1); then
    tail -n 20 "$log" >&2
    fail "failed: $*" "read $log (its end stands above), remove the cause, run this again"
  fi
}

as_postgres() { runuser -u postgres -- "$@"; }

psql_value() { as_postgres "$PGBIN/psql" -h "$sockets" -p "$PORT" -d postgres -X -q -A -t -v ON_ERROR_STOP=1 -c "$1"; }

# --- What runs, and how it is stopped -------------------------------------------------------------------------------
# A process id in a file may belong to someone else by now. A process is ours if its program is the expected one and the
# directory that only we use is one of its arguments.

# is_ours PID PROGRAM ARGUMENT
is_ours() {
  local exe arguments argument
  exe=$(readlink "/proc/$1/exe" 2>/dev/null) || return 1
  exe=${exe% (deleted)}
  [[ ${exe##*/} == "$2" ]] || return 1
  mapfile -d '' -t arguments 2>/dev/null <"/proc/$1/cmdline" || return 1
  for argument in "${arguments[@]}"; do
    [[ $argument == "$3" ]] && return 0
  done
  return 1
}

# our_pids PROGRAM ARGUMENT: without those whose parent is one of them.
our_pids() {
  local path pid parent
  for path in /proc/[0-9]*; do
    pid=${path#/proc/}
    is_ours "$pid" "$1" "$2" || continue
    parent=$(awk '/^PPid:/ {print $2}' "$path/status" 2>/dev/null || true)
    [[ -n $parent ]] && is_ours "$parent" "$1" "$2" || echo "$pid"
  done
}

# stop_process PROGRAM ARGUMENT SIGNAL...: the next signal is sent where the one before did not help in time.
stop_process() {
  local program=$1 argument=$2 pid signal waited
  shift 2
  for pid in $(our_pids "$program" "$argument"); do
    for signal in "$@"; do
      is_ours "$pid" "$program" "$argument" || break
      kill -s "$signal" "$pid" 2>/dev/null || break
      for ((waited = 0; waited < STOP_SECONDS * 10; ++waited)); do
        is_ours "$pid" "$program" "$argument" || break
        sleep 0.1
      done
    done
  done
}

# Mounts below the demonstration directory, newest first. Read from the table: a stat of a dead mount may hang.
our_mounts() { awk -v dir="$demo/" 'index($5 "/", dir) == 1 {print $5}' /proc/self/mountinfo | tac; }

# Stops servers, then unmounts, then stops the daemon; whatever part of it there is.
stop_all() {
  stop_process postgres "$source_dir" INT QUIT KILL
  stop_process postgres "$target" INT QUIT KILL
  if [[ -n $(our_mounts) && -n $(our_pids pbkfsd "$state") && -x $pbkfs ]]; then
    timeout "$STOP_SECONDS" "$pbkfs" --address "unix:$socket" unmount "$MOUNT_ID" --wait 20 --delete-diff \
      >>"$logs/pbkfs.log" 2>&1 </dev/null || true
  fi
  stop_process pbkfsd "$state" TERM KILL
  local path
  for path in $(our_mounts); do
    umount -l "$path" || true
  done
}

# The directory is removed only if we made it and nothing is mounted in it.
remove_demo() {
  [[ -e $demo ]] || return 0
  [[ -e $demo/.pbkfs-demo ]] ||
    fail "$demo was not made by this script" "choose another directory with --demo-dir"
  [[ -z $(our_mounts) ]] ||
    fail "still mounted: $(our_mounts)" "find the users with 'fuser -vm', stop them, run this again"
  rm -rf --one-file-system "$demo"
}

on_exit() {
  local status=$?
  trap - EXIT
  trap '' INT TERM HUP
  set +e
  if ((status != 0 && started)); then
    step "stopping what was started"
    stop_all
    echo "The next run of deploy/quickstart.sh goes on from here; 'deploy/quickstart.sh --clean' removes everything." >&2
  fi
  exit "$status"
}

# --- The steps ------------------------------------------------------------------------------------------------------

build() {
  step "building pbkfs in $build_dir (log: $logs/build.log)"
  local options=(-DPBKFS_SERVICE=ON -DPBKFS_TESTS=ON)
  # A directory that was configured before keeps its settings, so that nothing is built twice.
  if [[ ! -f $build_dir/CMakeCache.txt ]]; then
    options+=(-G Ninja -DCMAKE_BUILD_TYPE=Release)
    command -v ccache >/dev/null && options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  fi
  local targets=(mkcatalog)
  ((catalog_only)) || targets+=(pbkfsd pbkfs)
  logged build cmake -S "$root" -B "$build_dir" "${options[@]}"
  logged build cmake --build "$build_dir" --parallel "$(nproc)" --target "${targets[@]}"
}

backup() {
  "$mkcatalog" backup --catalog "$catalog" --instance main --pgdata "$source_dir" --codec zlib --mode "$1" \
    --psql "runuser -u postgres -- $PGBIN/psql -h $sockets -p $PORT -d postgres" 2>>"$logs/mkcatalog.log" ||
    fail "the $1 backup failed" "read $logs/mkcatalog.log"
}

make_catalog() {
  if [[ $(cat "$demo/catalog.scale" 2>/dev/null) == "$scale" ]]; then
    step "using the backups of an earlier run in $catalog"
    return
  fi
  rm -rf --one-file-system "$catalog" "$source_dir" "$demo/catalog.scale"
  step "making a PostgreSQL with pgbench data of scale $scale"
  install -d -o postgres -g postgres -m 0700 "$source_dir"
  logged postgres-source as_postgres "$PGBIN/initdb" --data-checksums --auth=peer --encoding=UTF8 --locale=C.UTF-8 \
    -D "$source_dir"
  printf '%s\n' "listen_addresses = ''" "port = $PORT" "unix_socket_directories = '$sockets'" \
    >>"$source_dir/postgresql.conf"
  start_source
  logged pgbench as_postgres "$PGBIN/pgbench" -h "$sockets" -p "$PORT" -q -i -s "$scale" postgres
  local id
  step "FULL backup"
  id=$(backup full)
  echo "    $id"
  step "some traffic, then a DELTA backup"
  logged pgbench as_postgres "$PGBIN/pgbench" -h "$sockets" -p "$PORT" -n -c 2 -t 2000 postgres
  psql_value "$QUESTION" >"$demo/expected"
  id=$(backup delta)
  echo "    $id"
  step "stopping that PostgreSQL and removing its data: only the backups are left"
  logged postgres-source as_postgres "$PGBIN/pg_ctl" -D "$source_dir" -m fast -w stop
  rm -rf --one-file-system "$source_dir"
  echo "$scale" >"$demo/catalog.scale"
}

start_source() {
  logged postgres-source as_postgres "$PGBIN/pg_ctl" -D "$source_dir" -w -t 300 start 9>&-
}

start_daemon() {
  step "starting pbkfsd (log: $logs/pbkfsd.log)"
  local metrics_port
  metrics_port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  setsid "$pbkfsd" --listen "unix:$socket" --metrics "127.0.0.1:$metrics_port" --state-dir "$state" \
    --allow-root "$demo" </dev/null >>"$logs/pbkfsd.log" 2>&1 9>&- &
  echo $! >"$demo/pbkfsd.pid"
  metrics=http://127.0.0.1:$metrics_port/metrics
  local tries
  for ((tries = 0; tries < 300; ++tries)); do
    "$pbkfs" --address "unix:$socket" list </dev/null >/dev/null 2>&1 && return
    [[ -n $(our_pids pbkfsd "$state") ]] || ((tries < 10)) || break
    sleep 0.1
  done
  tail -n 20 "$logs/pbkfsd.log" >&2
  fail "pbkfsd does not answer on $socket" "read $logs/pbkfsd.log (its end stands above)"
}

# field NAME: of the Mount message that mount answered.
field() {
  /usr/bin/python3 -c 'import json, sys; print(json.load(open(sys.argv[1])).get(sys.argv[2], ""))' "$demo/mount.json" "$1"
}

mount_backup() {
  step "mounting the newest backup at $target"
  "$pbkfs" --address "unix:$socket" -o json mount --store "$catalog" --instance main --backup latest \
    --target "$target" --id "$MOUNT_ID" --owner postgres:postgres </dev/null >"$demo/mount.json" ||
    fail "the mount failed (see above)" "read $logs/pbkfsd.log"
  diff_dir=$(field diffDir)
  start_command=$(field startCommand)
  [[ -n $start_command && -n $diff_dir ]] ||
    fail "the answer in $demo/mount.json names no start command or no diff directory" "read $logs/pbkfsd.log"
}

start_server() {
  step "starting PostgreSQL on the mount: $start_command"
  logged postgres as_postgres sh -c "$start_command" 9>&-
  # The server answers before recovery is over only if it is a hot standby; wait until it takes writes.
  local tries
  for ((tries = 0; tries < 600; ++tries)); do
    [[ $(psql_value 'SELECT pg_is_in_recovery()' 2>/dev/null) == f ]] && return
    sleep 0.1
  done
  fail "PostgreSQL on the mount does not become writable" "read $logs/postgres.log and the log in $target"
}

show() {
  step "accounts and the sum of their balances"
  local answer expected
  answer=$(psql_value "$QUESTION")
  expected=$(cat "$demo/expected")
  echo "    before the backup: $expected"
  echo "    on the mount:      $answer"
  [[ $answer == "$expected" ]] || fail "the answers differ" "keep $demo and report this as a defect"
  step "writing: a new table and ten thousand updates"
  psql_value 'CREATE TABLE written_on_the_mount AS SELECT now() AS at;
              UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid <= 10000; CHECKPOINT' ||
    fail "writing on the mount failed (see above)" "read $logs/postgres.log and $logs/pbkfsd.log"
  echo "    on the mount now:  $(psql_value "$QUESTION")"
  step "pbkfs stats"
  "$pbkfs" --address "unix:$socket" stats "$MOUNT_ID" </dev/null
  step "sizes"
  echo "    databases as PostgreSQL sees them: $(psql_value \
    'SELECT pg_size_pretty(sum(pg_database_size(oid))) FROM pg_database')"
  echo "    backups in the catalog:            $(du -sh "$catalog/backups" | cut -f1)"
  echo "    diff (with the WAL written since): $(du -sh "$diff_dir" | cut -f1)"
}

explain() {
  cat <<EXPLAIN

PostgreSQL runs on the mounted backup. The catalog is untouched.
  connect     runuser -u postgres -- psql -h $sockets -p $PORT
  statistics  $pbkfs --address unix:$socket stats
  metrics     $metrics
  unmount     (stop PostgreSQL first) $pbkfs --address unix:$socket unmount $MOUNT_ID
  clean up    $root/deploy/quickstart.sh --clean$( [[ $demo == /var/tmp/pbkfs-demo ]] || echo " --demo-dir $demo")
EXPLAIN
}

readonly QUESTION="SELECT count(*) || ' accounts, sum ' || sum(abalance) FROM pgbench_accounts"

check_system() {
  ((EUID == 0)) || fail "mounting needs root" "run this as root"
  [[ $demo =~ ^/[A-Za-z0-9._/-]+$ ]] || fail "unusable directory '$demo'" "use letters, digits, '.', '_', '-' only"
  ((${#demo} <= 60)) || fail "$demo is too long for the sockets in it" "use a path of at most 60 characters"
  ((catalog_only)) || [[ -c /dev/fuse ]] ||
    fail "there is no /dev/fuse" "modprobe fuse; in a container add --device /dev/fuse --cap-add SYS_ADMIN"
}

# One run at a time. Programs that outlive this script must not inherit the descriptor.
take_lock() {
  exec 9<"$demo/.pbkfs-demo"
  flock -n 9 || fail "another run uses $demo" "wait for it or interrupt it, or use --demo-dir"
}

prepare() {
  if [[ -e $demo && ! -e $demo/.pbkfs-demo ]] && [[ -n $(ls -A "$demo") ]]; then
    fail "$demo exists and was not made by this script" "choose another directory with --demo-dir"
  fi
  install -d -m 0755 "$demo"
  touch "$demo/.pbkfs-demo"
  take_lock
  started=1
  install -d -m 0755 "$logs"
  local free
  free=$(df --output=avail -BM "$demo" | tail -n 1 | tr -dc 0-9)
  ((free > 600 + scale * 40)) ||
    fail "only $free MB are free in $demo" "make room, or use --demo-dir on another disk or a smaller --scale"
}

main() {
  demo=/var/tmp/pbkfs-demo scale=20 install=1 catalog_only=0 stop_after=0 clean=0 started=0
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  build_dir=$root/build
  while (($# > 0)); do
    case $1 in
      --demo-dir | --build-dir | --scale) (($# > 1)) || { usage >&2 && exit 2; } ;;&
      --demo-dir) demo=$(realpath -m "$2") && shift ;;
      --build-dir) build_dir=$(realpath -m "$2") && shift ;;
      --scale) scale=$2 && shift ;;
      --no-install) install=0 ;;
      --catalog-only) catalog_only=1 ;;
      --stop-after) stop_after=1 ;;
      --clean) clean=1 ;;
      -h | --help) usage && exit 0 ;;
      *) printf 'quickstart: unknown option %s\n' "$1" >&2 && usage >&2 && exit 2 ;;
    esac
    shift
  done
  [[ $scale =~ ^[1-9][0-9]{0,4}$ ]] || { usage >&2 && exit 2; }
  readonly demo build_dir scale root
  readonly source_dir=$demo/source catalog=$demo/catalog sockets=$demo/sockets state=$demo/state logs=$demo/log
  readonly target=$demo/mnt socket=$demo/pbkfsd.sock
  readonly pbkfsd=$build_dir/service/pbkfsd pbkfs=$build_dir/client/pbkfs mkcatalog=$build_dir/tests/support/mkcatalog
  PATH=$PATH:/usr/sbin:/sbin
  cd /  # The user postgres may not be able to enter the directory that this was started from.

  check_system
  trap on_exit EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
  if ((clean)); then
    [[ ! -e $demo || -e $demo/.pbkfs-demo ]] ||
      fail "$demo was not made by this script" "name the right directory with --demo-dir"
    step "stopping and removing $demo"
    [[ -e $demo ]] || return 0
    take_lock
    install -d -m 0755 "$logs"
    stop_all
    remove_demo
    return
  fi
  prepare
  stop_all
  rm -rf --one-file-system "$state" "$target" "$socket" "$demo/mount.json"
  if ((install)); then
    step "packages"
    "$root/deploy/install-deps.sh"
  fi
  install -d -o postgres -g postgres -m 0700 "$sockets"
  build
  make_catalog
  ((!catalog_only)) || return 0
  start_daemon
  mount_backup
  start_server
  show
  if ((stop_after)); then
    step "stopping and removing $demo"
    stop_all
    remove_demo
  else
    explain
  fi
}

main "$@"
