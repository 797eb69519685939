#include "client/help.h"

#include "absl/strings/match.h"

namespace pbkfs::client {
namespace {

constexpr char kMain[] = R"(pbkfs: mounts pg_probackup backups through pbkfsd

  pbkfs [--address ADDR] [-o table|json] COMMAND

  mount      mount a backup as a writable PostgreSQL data directory
  unmount    unmount it
  list       the mounts
  stats      what the mounts read and wrote
  backups    the backups of a catalog, and whether they can be mounted
  diff       list, check and delete what mounts wrote

  --address ADDR   the daemon: unix:PATH or PATH, or HOST:PORT. Without it PBKFS_ADDRESS,
                   else unix:/run/pbkfs/pbkfsd.sock
  --tls-ca FILE --tls-cert FILE --tls-key FILE
                   for HOST:PORT: who signed the daemon's certificate, our own certificate and its
                   key, in PEM format. Without them PBKFS_TLS_CA, PBKFS_TLS_CERT and PBKFS_TLS_KEY
  -o table|json    json prints the answer as proto3 JSON on stdout and nothing else there
  --version        print the version
  --help           print this; pbkfs COMMAND --help for one command

Exit codes: 0 done, 1 failed, 2 usage or invalid argument, 3 not found, 4 exists already or
another operation is pending, 5 a precondition fails, 6 daemon unreachable or draining,
7 data loss.

Example:
  pbkfs backups --store /backup
  pbkfs mount --store /backup --instance main --target /srv/clones/a --owner postgres
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
  --force                  mount although a backup of the chain is CORRUPT or ORPHAN: dangerous
  --catalog-lock auto|required|off
  --tablespaces directory|symlink
  --recovery-target immediate|latest|time=…|xid=…|lsn=…|name=…
                           replay archived WAL up to there (an ARCHIVE backup without it: immediate)
  --recovery-timeline current|latest|NUMBER
                           along which timeline (current; latest for the target latest)
  --recovery-action promote|pause|shutdown
                           what the server does when it is there (promote)
  --set NAME=VALUE         a server setting for the clone; may be repeated
  --default-config         write configuration files where the backup has none
  --allow-tablespace-wal   the server will run where production's tablespace paths do not exist
  --dry-run                check everything, change nothing, show the mount that would be

Examples:
  pbkfs mount --store /backup --instance main --target /srv/clones/a --owner postgres
  pbkfs mount --store /backup --instance main --backup TOW2HK --target /srv/clones/b \
      --set port=5433 --set shared_buffers=256MB
  pbkfs mount --store /backup --instance main --target /srv/clones/c --owner postgres \
      --recovery-target "time=2026-01-31 12:00:00+00"
)";

constexpr char kUnmount[] = R"(pbkfs unmount: unmount a backup

  pbkfs unmount ID|TARGET [--wait SEC] [--force] [--delete-diff]

  --wait SEC       wait so long for open files to be closed
  --force          detach even though files are open: their users get errors
  --delete-diff    delete the changes too; without it they are there at the next mount

An id that is not mounted is no error.

Examples:
  pbkfs unmount a
  pbkfs unmount /srv/clones/a --wait 30 --delete-diff
)";

constexpr char kList[] = R"(pbkfs list: the mounts of the daemon

Example:
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

Example:
  pbkfs backups --store /backup --instance main
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

}  // namespace

absl::string_view HelpText(absl::string_view command) {
  if (command == "mount") return kMount;
  if (command == "unmount") return kUnmount;
  if (command == "list") return kList;
  if (command == "stats") return kStats;
  if (command == "backups") return kBackups;
  if (command == "diff" || absl::StartsWith(command, "diff-")) return kDiff;
  return kMain;
}

}  // namespace pbkfs::client
