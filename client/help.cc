#include "client/help.h"

#include "absl/strings/match.h"

namespace pbkfs::client {
namespace {

constexpr char kMain[] = R"(pbkfs: mounts pg_probackup backups through pbkfsd

  pbkfs [--address ADDR] [-o table|json] COMMAND

  mount       mount a backup as a writable PostgreSQL data directory
  unmount     unmount it
  list        the mounts
  stats       what the mounts read and wrote
  backups     the backups of a catalog as trees of chains, and whether they can be mounted
  diff        list, check and delete what mounts wrote
  daemon      status, reload, upgrade, dump and log level of pbkfsd
  completion  a script that makes bash or zsh complete all this
  help        pbkfs help COMMAND explains one of them, with examples

  --address ADDR   the daemon: unix:PATH or PATH, or HOST:PORT. Without it PBKFS_ADDRESS,
                   else unix:/run/pbkfs/pbkfsd.sock
  --tls-ca FILE --tls-cert FILE --tls-key FILE
                   for HOST:PORT: who signed the daemon's certificate, our own certificate and its
                   key, in PEM format. Without them PBKFS_TLS_CA, PBKFS_TLS_CERT and PBKFS_TLS_KEY
  -o table|json    json prints the answer as proto3 JSON on stdout and nothing else there
  --timeout SEC    how long the daemon may take for a call (600 for what reads a catalog or a
                   diff, else 30); a daemon that does not even answer is given up after 5 seconds
  --version        print the version
  --help           print this; pbkfs COMMAND --help for one command

Progress, next steps and errors go to stderr. Colours are for terminals; NO_COLOR switches them off.

Exit codes: 0 done, 1 failed, 2 usage or invalid argument, 3 not found, 4 exists already or
another operation is pending, 5 a precondition fails, 6 daemon unreachable or draining,
7 data loss.

Examples:
  pbkfs backups --store /backup
  pbkfs mount --store /backup --instance main --target /srv/clones/a --owner postgres
  pbkfs unmount a
)";

constexpr char kMount[] = R"(pbkfs mount: mount a backup as a writable PostgreSQL data directory

  pbkfs mount --store DIR --instance NAME --target DIR [OPTION]...

  --store DIR              the pg_probackup catalog (its -B)
  --instance NAME          the instance in it
  --backup ID|latest       the backup; latest = the newest that can be mounted, or with a recovery
                           target the newest that ends before it (latest)
  --target DIR             where to mount: an empty directory, or one that does not exist
  --diff DIR               where changes are kept (below the daemon's state directory)
  --id ID                  name of the mount (made from the last component of the target)
  --owner USER[:GROUP]     who owns the files (the owner of the instance in the catalog)
  --read-only              refuse writes
  --materialize-on-read    copy what is read into the diff
  --ephemeral              delete the diff at unmount
  --restore                mount again when the daemon starts, after a reboot too
  --diff-limit SIZE        how much the changes may take: 10GiB (no limit)
  --threads N              threads that serve the mount (8)
  --force                  mount although a backup of the chain is CORRUPT or ORPHAN: dangerous
  --catalog-lock auto|required|off
                           whether pg_probackup is kept from deleting and merging the chain (auto =
                           where that is possible)
  --tablespaces directory|symlink
                           how the server finds tablespaces: directories of pg_tblspc, or links for
                           servers without allow_in_place_tablespaces (directory)
  --recovery-target immediate|latest|time=…|xid=…|lsn=…|name=…
                           replay archived WAL up to there (an ARCHIVE backup without it:
                           immediate; servers before 12 need a recovery.conf of your own instead)
  --recovery-timeline current|latest|NUMBER
                           along which timeline (current; latest for the target latest)
  --recovery-exclusive     of time, xid and lsn: stop just before what is named
  --recovery-action promote|pause|shutdown
                           what the server does when it is there (promote)
  --set NAME=VALUE         a server setting for the clone; may be repeated
  --default-config         write configuration files where the backup has none
  --allow-tablespace-wal   the server will run where production's tablespace paths do not exist
  --dry-run                check everything, change nothing, show the mount that would be

The same command again finds the mount that is there. It prints the line that starts PostgreSQL.

Examples:
  pbkfs mount --store /backup --instance main --target /srv/clones/a --owner postgres
  pbkfs mount --store /backup --instance main --backup TOW2HK --target /srv/clones/b \
      --set port=5433 --set shared_buffers=256MB
  pbkfs mount --store /backup --instance main --target /srv/clones/c --owner postgres \
      --recovery-target "time=2026-01-31 12:00:00+00"
  pbkfs mount --store /backup --instance main --target /srv/clones/d --ephemeral --dry-run
)";

constexpr char kUnmount[] = R"(pbkfs unmount: unmount a backup

  pbkfs unmount ID|TARGET [--wait SEC] [--force] [--delete-diff]

  --wait SEC       wait so long for open files to be closed, and tell who has them open
  --force          detach even though files are open, at the end of the wait: their users get errors
  --delete-diff    delete the changes too; without it they are there at the next mount

A word with a slash is a target. Without --wait and --force a mount that is in use is refused, with
the processes that use it. An id that is not mounted is no error.

Examples:
  pbkfs unmount a
  pbkfs unmount /srv/clones/a --wait 30 --delete-diff
)";

constexpr char kList[] = R"(pbkfs list: the mounts of the daemon

  pbkfs list

A mount that has failed says why below the table.

Examples:
  pbkfs list
  pbkfs list -o json
)";

constexpr char kStats[] = R"(pbkfs stats: what the mounts read and wrote since they were made

  pbkfs stats [ID] [--watch] [--reset]

  --watch    what happens: rates, hit ratios, latencies (p50 / p99) and growth of the diff of each
             second, until interrupted; the first line is since the mount was made
  --reset    figures since this command began; without --watch those of one second. Counters of
             the daemon are never reset, so that nobody is in another's way

Examples:
  pbkfs stats
  pbkfs stats a -o json
  pbkfs stats a --watch
)";

constexpr char kBackups[] =
    R"(pbkfs backups: the backups of a catalog, and whether they can be mounted

  pbkfs backups --store DIR [--instance NAME]

  --store DIR      the pg_probackup catalog (its -B)
  --instance NAME  only this instance

Each FULL is followed by the increments that need it, indented below their parent. DATA and WAL SIZE
are what the backup takes in the catalog, PGDATA what it restores to; TAKEN is when it became
consistent. Why a backup can't be mounted stands below the tree.

Examples:
  pbkfs backups --store /backup --instance main
  pbkfs backups --store /backup -o json
)";

constexpr char kDiff[] = R"(pbkfs diff: list, check and delete diffs, the changes that mounts made

  pbkfs diff list [--dir DIR]
  pbkfs diff check PATH|ID [--repair] [--store DIR --instance NAME]
  pbkfs diff delete PATH|ID [--missing-ok]

  PATH             a diff directory; a word without a slash is the id of a mount
  --dir DIR        list the diffs in DIR too
  --repair         remove what interrupted programs left; never where there is damage
  --store DIR      the catalog of the diff's backup: compare with the image too
  --instance NAME  the instance in it
  --missing-ok     it is no error if there is no such diff

A diff that is mounted can be neither checked nor deleted (exit code 5). A check that finds damage
ends with 7. The bytes of pages have no checksum here: PostgreSQL's own tell of them.

Examples:
  pbkfs diff list
  pbkfs diff check a
  pbkfs diff delete /srv/diffs/a
)";

constexpr char kDaemon[] = R"(pbkfs daemon: looks after pbkfsd itself

  pbkfs daemon status
  pbkfs daemon reload
  pbkfs daemon upgrade
  pbkfs daemon dump [--lines N]
  pbkfs daemon log-level LEVEL

  status      version, processes, addresses, allowed roots, and what a crash would cost the mounts
  reload      read the configuration file again, as SIGHUP does; one with an error changes nothing
  upgrade     go over to the program that is now on the disk, as SIGUSR2 does. Mounts go on. Waits
              until the new one serves; ends with 1 where the old one had to take over again
  dump        a text for a bug report: no contents, no settings, no secrets; paths and mount ids
  log-level   trace, debug, info, warn or error, until the daemon ends or reloads

  --lines N   recent warnings and errors in the dump at most (200)

Examples:
  pbkfs daemon status
  pbkfs daemon upgrade
  pbkfs daemon log-level debug
  pbkfs daemon dump > report.txt
)";

constexpr char kCompletion[] = R"(pbkfs completion: a script that makes a shell complete pbkfs

  pbkfs completion bash|zsh

It completes commands, flags, their values and directories, and asks the daemon for mounts, diffs,
instances and backups; where that does not answer, it completes less and says nothing.

Examples:
  source <(pbkfs completion bash)                                      # for this shell
  pbkfs completion bash > /usr/share/bash-completion/completions/pbkfs # for everybody
  pbkfs completion zsh > /usr/local/share/zsh/site-functions/_pbkfs
)";

}  // namespace

absl::string_view HelpText(absl::string_view command) {
  if (command == "mount") return kMount;
  if (command == "unmount") return kUnmount;
  if (command == "list") return kList;
  if (command == "stats") return kStats;
  if (command == "backups") return kBackups;
  if (command == "daemon" || absl::StartsWith(command, "daemon-")) return kDaemon;
  if (command == "completion") return kCompletion;
  if (command == "diff" || absl::StartsWith(command, "diff-")) return kDiff;
  return kMain;
}

}  // namespace pbkfs::client
