// The daemon: builds everything that serves, and takes it down again.
//
// Run from one thread. The signals that it listens to are blocked in every thread and taken with
// sigwait.
#ifndef PBKFS_SERVICE_DAEMON_H_
#define PBKFS_SERVICE_DAEMON_H_

#include "absl/status/status.h"
#include "pbkfs/v1/config.pb.h"
#include "service/config_memory.h"
#include "service/options.h"

namespace pbkfs {

// SIGTERM, SIGINT and SIGHUP. Blocked by BlockDaemonSignals before the first thread starts.
void BlockDaemonSignals();

// Serves until a stop signal, then unmounts everything: as the worker of a keeper, or alone.
// `config` is in force; what a reload takes over goes to `memory` too, unless it is null.
absl::Status RunDaemon(const DaemonOptions& options, v1::DaemonConfig config,
                       const ConfigMemory* memory);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_DAEMON_H_
