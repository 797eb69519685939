// The daemon: builds everything that serves, and takes it down again.
//
// Run from one thread. The signals that end it are blocked in every thread and taken with sigwait.
#ifndef PBKFS_SERVICE_DAEMON_H_
#define PBKFS_SERVICE_DAEMON_H_

#include <csignal>

#include "absl/status/status.h"
#include "service/options.h"

namespace pbkfs {

// SIGTERM and SIGINT. Blocked by BlockStopSignals before the first thread starts.
sigset_t StopSignals();
void BlockStopSignals();

// Serves until a stop signal, then unmounts everything.
absl::Status RunDaemon(const DaemonOptions& options);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_DAEMON_H_
