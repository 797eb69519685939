// What the daemon commands print.
#ifndef PBKFS_CLIENT_DAEMON_OUTPUT_H_
#define PBKFS_CLIENT_DAEMON_OUTPUT_H_

#include <string>

#include "client/table.h"
#include "pbkfs/v1/daemon.pb.h"

namespace pbkfs::client {

std::string DaemonStatusText(const v1::DaemonStatus& status, const Palette& palette = Palette());
std::string ReloadText(const v1::ReloadResponse& response, const Palette& palette = Palette());
std::string ReloadNextStep(const v1::ReloadResponse& response);

// How an upgrade goes, by what the daemon says after it has begun.
enum class UpgradeState {
  kPending,   // The worker that was asked still answers, and no outcome is known.
  kDone,      // Another program serves.
  kFellBack,  // The old program serves again, or still.
};
// `began` is the answer to Upgrade, `before` what GetStatus said before it.
UpgradeState UpgradeStateOf(const v1::DaemonStatus& before, const v1::UpgradeResponse& began,
                            const v1::DaemonStatus& now);
std::string UpgradeText(const v1::UpgradeResponse& began, const v1::DaemonStatus& now);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_DAEMON_OUTPUT_H_
