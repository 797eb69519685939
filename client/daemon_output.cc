#include "client/daemon_output.h"

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/output.h"

namespace pbkfs::client {
namespace {

std::string OrDash(const std::string& text) { return text.empty() ? "-" : text; }

std::string MountsText(const v1::DaemonStatus& status) {
  // In the order of a mount's life, whatever the map's is.
  std::vector<std::string> counts;
  for (const char* state : {"creating", "active", "draining", "failed"}) {
    const auto found = status.mounts().find(state);
    if (found == status.mounts().end() || found->second == 0) continue;
    counts.push_back(absl::StrCat(found->second, " ", state));
  }
  return counts.empty() ? "none" : absl::StrJoin(counts, ", ");
}

Cell ProtectionCell(v1::RestartProtection protection) {
  std::string text = EnumText(v1::RestartProtection_Name(protection), "RESTART_PROTECTION_");
  const Style style = protection == v1::RESTART_PROTECTION_FULL ? Style::kGood : Style::kWarning;
  return {std::move(text), style};
}

void AppendLines(absl::string_view title, Style style,
                 const google::protobuf::RepeatedPtrField<std::string>& lines,
                 const Palette& palette, std::string* text) {
  for (const std::string& line : lines) {
    absl::StrAppend(text, palette.Paint(style, title), ": ", Printable(line), "\n");
  }
}

}  // namespace

std::string DaemonStatusText(const v1::DaemonStatus& status, const Palette& palette) {
  const bool failed = status.mounts().count("failed") > 0 && status.mounts().at("failed") > 0;
  return FormatFacts(
      {{"version", status.version()},
       {"build", OrDash(status.build())},
       {"state",
        status.draining() ? Cell("draining", Style::kWarning) : Cell("serving", Style::kGood)},
       {"worker", absl::StrCat("pid ", status.worker_pid(), ", since ",
                               TimeText(status.start_time()), ", ", status.worker_restarts(),
                               status.worker_restarts() == 1 ? " restart" : " restarts")},
       {"keeper",
        status.keeper_pid() == 0 ? std::string("none") : absl::StrCat("pid ", status.keeper_pid())},
       {"last upgrade", OrDash(status.last_upgrade())},
       {"mounts", Cell(MountsText(status), failed ? Style::kBad : Style::kPlain)},
       {"restart protection", ProtectionCell(status.restart_protection())},
       {"listens at", OrDash(absl::StrJoin(status.listen_addresses(), ", "))},
       {"metrics", OrDash(status.metrics_address())},
       {"state directory", status.state_directory()},
       {"configuration", OrDash(status.config_file())},
       {"allowed roots", OrDash(absl::StrJoin(status.allowed_roots(), ", "))},
       {"log level", status.log_level()},
       {"kernel",
        absl::StrCat(OrDash(status.kernel()), ", FUSE ", OrDash(status.fuse_protocol()))}},
      palette);
}

std::string ReloadText(const v1::ReloadResponse& response, const Palette& palette) {
  std::string text;
  AppendLines("changed", Style::kGood, response.changed(), palette, &text);
  AppendLines("needs a restart", Style::kWarning, response.needs_restart(), palette, &text);
  AppendLines("could not be mounted", Style::kBad, response.failed_mounts(), palette, &text);
  return text.empty() ? "nothing changed\n" : text;
}

std::string ReloadNextStep(const v1::ReloadResponse& response) {
  if (response.failed_mounts_size() > 0) return "correct what is named, and reload again";
  if (response.needs_restart_size() > 0) return "restart pbkfsd where that is wanted";
  return "";
}

UpgradeState UpgradeStateOf(const v1::DaemonStatus& before, const v1::UpgradeResponse& began,
                            const v1::DaemonStatus& now) {
  const bool outcome_is_new =
      !now.last_upgrade().empty() && now.last_upgrade() != before.last_upgrade();
  const bool other_worker = now.worker_pid() != began.old_worker_pid();
  if (!outcome_is_new && !other_worker) return UpgradeState::kPending;
  if (absl::StrContains(now.last_upgrade(), "fell back")) return UpgradeState::kFellBack;
  return other_worker ? UpgradeState::kDone : UpgradeState::kPending;
}

std::string UpgradeText(const v1::UpgradeResponse& began, const v1::DaemonStatus& now) {
  return absl::StrCat("upgraded from ", began.old_version(), " (pid ", began.old_worker_pid(),
                      ") to ", now.version(), " (pid ", now.worker_pid(), ")\n");
}

}  // namespace pbkfs::client
