#include "service/daemon_status.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "service/logging.h"
#include "service/metrics/mount_state.h"
#include "service/proto_convert.h"

namespace pbkfs {
namespace {

using Mounts = std::vector<std::shared_ptr<const LiveMount>>;

std::string KernelRelease() {
  utsname names = {};
  return uname(&names) == 0 ? names.release : "";
}

// What a mount of now would have. The kernel says for sure whether it can send requests again once
// something is mounted; until then its version does.
v1::RestartProtection ProtectionOfNow(const MountManager& manager, const v1::Mount* newest,
                                      const std::string& release) {
  if (!manager.has_keeper()) return v1::RESTART_PROTECTION_NONE;
  if (newest != nullptr) return newest->restart_protection();
  int major = 0;
  int minor = 0;
  if (sscanf(release.c_str(), "%d.%d", &major, &minor) != 2) return v1::RESTART_PROTECTION_NONE;
  const bool can_resend = major > 6 || (major == 6 && minor >= 9);
  return can_resend ? v1::RESTART_PROTECTION_FULL : v1::RESTART_PROTECTION_NONE;
}

// Lines of a file of /proc that begin with one of `names`.
void AppendProcLines(const char* path, const std::vector<absl::string_view>& names,
                     std::string* text) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    for (const absl::string_view name : names) {
      if (absl::StartsWith(line, name)) absl::StrAppend(text, "  ", line, "\n");
    }
  }
}

void AppendMount(const LiveMount& mount, std::string* text) {
  const v1::Mount about = mount.Describe();
  absl::StrAppend(text, "  ", about.mount_id(), ": ", StateName(about.state()),
                  about.state_reason().empty() ? "" : ": ", about.state_reason(), "\n    backup ",
                  about.backup_id(), " of ", about.instance(), " in ", about.store(), ", server ",
                  about.server_version(), "\n    target ", about.target(), ", diff ",
                  about.diff_dir(), "\n    restart protection ",
                  about.restart_protection() == v1::RESTART_PROTECTION_FULL ? "full" : "none",
                  ", catalog ", about.catalog_locked() ? "locked" : "not locked",
                  mount.Healthy() ? ", healthy" : ", NOT healthy",
                  about.read_only() ? ", read-only" : "",
                  about.materialize_on_read() ? ", materialize on read" : "",
                  about.force() ? ", by force" : "", "\n");
  std::vector<std::string> chain;
  for (const v1::ChainMember& member : about.chain()) {
    chain.push_back(
        absl::StrCat(member.mode(), " ", member.backup_id(), " (", member.compress_alg(), ")"));
  }
  absl::StrAppend(text, "    chain ", absl::StrJoin(chain, " <- "), "\n");
  const std::optional<MountFigures> figures = mount.Figures();
  if (!figures.has_value()) return;
  const FuseFigures& fuse = figures->fuse;
  absl::StrAppend(text, "    requests in flight ", fuse.inflight);
  if (fuse.inflight > 0) {
    absl::StrAppend(text, ", the oldest ", fuse.oldest_op, " of inode ", fuse.oldest_ino, " for ",
                    absl::FormatDuration(fuse.oldest_age));
  }
  absl::StrAppend(text, "; ordered or waiting ", figures->pending.operations, " on ",
                  figures->pending.inodes, " files; sent again ", fuse.resent, "\n");
  v1::MountStats stats;
  ToProto(figures->io, stats.mutable_io());
  ToProto(fuse, stats.mutable_fuse());
  if (figures->diff.has_value()) ToProto(*figures->diff, stats.mutable_diff());
  stats.mutable_fuse()->clear_requests();
  absl::StrAppend(text, "    io { ", stats.io().ShortDebugString(), " }\n    errors { ",
                  stats.fuse().ShortDebugString(), " }\n    diff { ",
                  stats.diff().ShortDebugString(), " }\n");
}

void AppendCaches(const ImageCacheFigures& caches, std::string* text) {
  absl::StrAppend(text, "Caches\n  page indexes ", caches.page_index_bytes, " of ",
                  caches.page_index_budget_bytes, " bytes, hits ", caches.page_index_hits,
                  ", misses ", caches.page_index_misses, ", builds ", caches.page_index_builds,
                  ", evictions ", caches.page_index_evictions, ", scans ", caches.stream_scans,
                  "\n  indexes on disk ", caches.index_cache_directory_bytes, " bytes\n");
  absl::StrAppend(text, "  pages ", caches.decoded_page_bytes, " of ",
                  caches.decoded_page_budget_bytes, " bytes, hits ", caches.decoded_page_hits,
                  ", misses ", caches.decoded_page_misses, ", evictions ",
                  caches.decoded_page_evictions, "\n");
}

}  // namespace

v1::DaemonStatus DescribeDaemon(const DaemonFacts& facts, const v1::DaemonConfig& config,
                                const MountManager& manager) {
  v1::DaemonStatus status;
  status.set_version(PBKFS_VERSION);
  status.set_build(facts.build);
  status.set_worker_pid(static_cast<uint32_t>(getpid()));
  ToProto(facts.start_time, status.mutable_start_time());
  status.set_worker_restarts(manager.WorkerRestarts());
  status.set_draining(manager.draining());
  for (const std::string& address : facts.listen_addresses) status.add_listen_addresses(address);
  status.set_metrics_address(facts.metrics_address);
  status.set_state_directory(facts.state_directory);
  status.set_config_file(facts.config_file);
  for (const std::string& root : config.allow_root()) status.add_allowed_roots(root);
  status.set_log_level(LogLevel());
  status.set_kernel(KernelRelease());
  for (const char* state : {"creating", "active", "draining", "failed"}) {
    (*status.mutable_mounts())[state] = 0;
  }
  std::optional<v1::Mount> newest;
  for (const auto& mount : manager.Mounts()) {
    v1::Mount about = mount->Describe();
    ++(*status.mutable_mounts())[std::string(StateName(about.state()))];
    if (mount->fuse_protocol().empty()) continue;
    const auto time = [](const v1::Mount& made) {
      return std::pair(made.create_time().seconds(), made.create_time().nanos());
    };
    if (newest.has_value() && time(about) < time(*newest)) continue;
    status.set_fuse_protocol(mount->fuse_protocol());
    newest = std::move(about);
  }
  status.set_restart_protection(
      ProtectionOfNow(manager, newest.has_value() ? &*newest : nullptr, status.kernel()));
  return status;
}

std::string DebugText(const v1::DaemonStatus& status, const MountManager& manager,
                      const RecentLog& log, size_t log_lines) {
  std::string text = absl::StrCat("Daemon\n  pbkfsd ", status.version(), ", ", status.build(),
                                  "\n  now ", absl::FormatTime(absl::Now(), absl::UTCTimeZone()),
                                  ", up for ", absl::FormatDuration(manager.Uptime()), "\n");
  absl::StrAppend(&text, "  status { ", status.ShortDebugString(), " }\n");
  absl::StrAppend(&text, "Process\n");
  AppendProcLines("/proc/self/status",
                  {"Uid:", "Gid:", "VmHWM:", "VmRSS:", "Threads:", "CapEff:", "CapBnd:",
                   "NoNewPrivs:", "Seccomp:", "voluntary_ctxt"},
                  &text);
  AppendProcLines("/proc/self/limits", {"Max open files", "Max processes", "Max locked memory"},
                  &text);
  const Mounts mounts = manager.Mounts();
  absl::StrAppend(&text, "Mounts: ", mounts.size(), "\n");
  for (const auto& mount : mounts) AppendMount(*mount, &text);
  AppendCaches(manager.CacheFigures(), &text);
  const std::vector<std::string> lines = log.Lines(log_lines);
  absl::StrAppend(&text, "Recent warnings and errors: ", lines.size(), "\n");
  for (const std::string& line : lines) absl::StrAppend(&text, "  ", line, "\n");
  return text;
}

}  // namespace pbkfs
