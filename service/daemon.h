// The daemon: builds everything that serves, and takes it down again.
//
// Run from one thread. The signals that it listens to are blocked in every thread and taken with
// sigwait.
#ifndef PBKFS_SERVICE_DAEMON_H_
#define PBKFS_SERVICE_DAEMON_H_

#include "absl/status/status.h"
#include "service/options.h"

namespace pbkfs {

// SIGTERM, SIGINT and SIGHUP. Blocked by BlockDaemonSignals before the first thread starts.
void BlockDaemonSignals();

// Serves until a stop signal, then unmounts everything: as the worker of a keeper, or alone.
absl::Status RunDaemon(const DaemonOptions& options);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_DAEMON_H_
