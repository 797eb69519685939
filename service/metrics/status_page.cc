#include "service/metrics/status_page.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "service/metrics/limits.h"
#include "service/metrics/mount_state.h"
#include "service/utf8.h"

namespace pbkfs {
namespace {

constexpr char kStyle[] = R"(
:root{color-scheme:light dark;--bg:#f4f5f7;--card:#fff;--ink:#1b1f24;--dim:#5b6570;--line:#d9dee4;
--ok:#1a7f37;--bad:#c5221f;--warn:#8a5a00;--diff:#2f6fde;--backup:#12857a;--zero:#9aa4af}
@media(prefers-color-scheme:dark){:root{--bg:#0f1317;--card:#191f26;--ink:#e6eaef;--dim:#97a3af;
--line:#2d3640;--ok:#4cc46a;--bad:#ff7b72;--warn:#e3b341;--diff:#6ea8fe;--backup:#3fc1b0;--zero:#66717d}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.45 system-ui,sans-serif}
main,header,footer{max-width:72rem;margin:0 auto;padding:0 1rem}
header{padding-top:1rem}
h1{font-size:1.3rem;margin:0;display:inline-block;margin-right:.6rem}
h2{font-size:1.1rem;margin:0;overflow-wrap:anywhere}
p{margin:.35rem 0}
.dim,dt,footer{color:var(--dim)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;margin:.8rem 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.5rem .75rem}
.tile b{display:block;font-size:1.15rem;font-variant-numeric:tabular-nums}
.tile span{color:var(--dim);font-size:.85rem}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr));gap:.8rem}
article{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.8rem .9rem}
article.bad{border-color:var(--bad);border-width:2px}
.top{display:flex;gap:.6rem;align-items:baseline;justify-content:space-between}
.state{font-weight:600;white-space:nowrap}
.ok{color:var(--ok)}.bad-text{color:var(--bad);font-weight:600}.warn{color:var(--warn)}
.path{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere;unicode-bidi:isolate}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem .8rem;margin:.6rem 0 0;align-items:baseline}
dt{font-size:.9rem}
dd{margin:0;text-align:right;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.bar{display:flex;height:.55rem;border-radius:.3rem;overflow:hidden;background:var(--line);margin:.6rem 0 .25rem}
.bar i{display:block}
.d{background:var(--diff)}.b{background:var(--backup)}.z{background:var(--zero)}
.key{font-size:.85rem;color:var(--dim)}
.key i{display:inline-block;width:.6rem;height:.6rem;border-radius:.15rem;margin:0 .3rem 0 0}
.key span{margin-right:.8rem;white-space:nowrap}
details{margin-top:.6rem}summary{cursor:pointer}
ul{margin:.3rem 0;padding-left:1.2rem}li{overflow-wrap:anywhere}
footer{padding-top:1rem;padding-bottom:1.5rem;font-size:.85rem}a{color:inherit}
)";

std::string Bytes(uint64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return absl::StrFormat("%.*f %s", value < 10 ? 1 : 0, value, kUnits[unit]);
}

std::string SignedBytes(int64_t bytes) {
  return bytes < 0 ? "?" : Bytes(static_cast<uint64_t>(bytes));
}

// The two largest units: "3 d 4 h", "12 s".
std::string Age(const google::protobuf::Duration& duration) {
  const int64_t seconds = std::max<int64_t>(duration.seconds(), 0);
  if (seconds == 0) return absl::StrCat(std::max(duration.nanos(), 0) / 1000000, " ms");
  if (seconds < 60) return absl::StrCat(seconds, " s");
  if (seconds < 3600) return absl::StrCat(seconds / 60, " min ", seconds % 60, " s");
  if (seconds < 86400) return absl::StrCat(seconds / 3600, " h ", seconds / 60 % 60, " min");
  return absl::StrCat(seconds / 86400, " d ", seconds / 3600 % 24, " h");
}

// Requests that ended with an errno that tells of trouble: names that are not there are no trouble.
uint64_t IoErrors(const v1::FuseStats& fuse) {
  uint64_t count = 0;
  for (const auto& [key, errors] : fuse.errors()) {
    for (const char* name : {"/EIO", "/ENOSPC", "/EDQUOT"}) {
      if (absl::EndsWith(key, name)) count += errors;
    }
  }
  return count;
}

uint64_t DataErrors(const v1::PageErrors& errors) {
  return errors.checksum() + errors.format() + errors.io();
}

void Row(const char* name, const std::string& value, std::string* out) {
  absl::StrAppend(out, "<dt>", name, "</dt><dd>", value, "</dd>");
}

std::string Count(uint64_t count) {
  return count == 0 ? "0" : absl::StrCat("<span class=bad-text>", count, "</span>");
}

void AddReads(const v1::OverlayIoSnapshot& io, std::string* out) {
  const std::pair<const char*, uint64_t> sources[] = {
      {"d", io.read_bytes_diff()}, {"b", io.read_bytes_backup()}, {"z", io.read_bytes_zero()}};
  const double total = static_cast<double>(io.read_bytes_diff()) +
                       static_cast<double>(io.read_bytes_backup()) +
                       static_cast<double>(io.read_bytes_zero());
  out->append("<div class=bar>");
  for (const auto& [name, bytes] : sources) {
    if (bytes == 0) continue;
    absl::StrAppendFormat(out, "<i class=%s style=\"width:%.2f%%\"></i>", name,
                          100 * static_cast<double>(bytes) / total);
  }
  absl::StrAppend(out, "</div><p class=key><span><i class=b></i>backup ",
                  Bytes(io.read_bytes_backup()), "</span><span><i class=d></i>diff ",
                  Bytes(io.read_bytes_diff()), "</span><span><i class=z></i>zero ",
                  Bytes(io.read_bytes_zero()), "</span></p>");
}

void AddFigures(const v1::MountStats& stats, std::string* out) {
  if (stats.has_io()) AddReads(stats.io(), out);
  out->append("<dl>");
  if (stats.has_backup_age()) Row("backup age", Age(stats.backup_age()), out);
  if (stats.has_io()) {
    Row("read",
        Bytes(stats.io().read_bytes_backup() + stats.io().read_bytes_diff() +
              stats.io().read_bytes_zero()),
        out);
    Row("written", Bytes(stats.io().written_bytes()), out);
  }
  if (stats.has_diff()) {
    Row("diff", SignedBytes(stats.diff().diff_bytes()), out);
    Row("free for the diff", SignedBytes(stats.diff().fs_free_bytes()), out);
  }
  if (stats.has_fuse()) {
    const v1::FuseStats& fuse = stats.fuse();
    Row("oldest request",
        fuse.inflight_requests() == 0 ? "none"
                                      : absl::StrCat(Age(fuse.oldest_request_age()), ", ",
                                                     EscapeHtml(fuse.oldest_request_op()), " (",
                                                     fuse.inflight_requests(), " in flight)"),
        out);
    Row("I/O errors", Count(IoErrors(fuse)), out);
  }
  if (stats.has_page_errors())
    Row("damaged pages read", Count(DataErrors(stats.page_errors())), out);
  out->append("</dl>");
}

bool InTrouble(const v1::Mount& mount, const v1::MountStats& stats) {
  return mount.state() == v1::MOUNT_STATE_FAILED || DataErrors(stats.page_errors()) > 0 ||
         IoErrors(stats.fuse()) > 0 ||
         stats.fuse().oldest_request_age().seconds() >= kHungRequestSeconds;
}

void AddMount(const v1::Mount& mount, const v1::MountStats& stats, std::string* out) {
  const bool failed = mount.state() == v1::MOUNT_STATE_FAILED;
  absl::StrAppend(out, "<article", InTrouble(mount, stats) ? " class=bad" : "",
                  "><div class=top><h2>", EscapeHtml(mount.mount_id()), "</h2><span class=\"state ",
                  mount.state() == v1::MOUNT_STATE_ACTIVE ? "ok"
                  : failed                                ? "bad-text"
                                                          : "warn",
                  "\">", StateName(mount.state()), "</span></div><p>", EscapeHtml(mount.instance()),
                  " · ", EscapeHtml(mount.backup_id()), " <span class=dim>(", mount.chain_size(),
                  mount.chain_size() == 1 ? " backup" : " backups", ")</span></p><p class=path>",
                  EscapeHtml(mount.target()), "</p>");
  if (!mount.state_reason().empty()) {
    absl::StrAppend(out, "<p class=bad-text>", EscapeHtml(mount.state_reason()), "</p>");
  }
  AddFigures(stats, out);
  if (!mount.warnings().empty()) {
    absl::StrAppend(out, "<details><summary class=warn>", mount.warnings_size(),
                    mount.warnings_size() == 1 ? " warning" : " warnings", "</summary><ul>");
    for (const std::string& warning : mount.warnings()) {
      absl::StrAppend(out, "<li>", EscapeHtml(warning), "</li>");
    }
    out->append("</ul></details>");
  }
  out->append("</article>\n");
}

void Tile(const std::string& value, const char* name, std::string* out) {
  absl::StrAppend(out, "<div class=tile><b>", value, "</b><span>", name, "</span></div>");
}

void AddSummary(const StatusPageInput& input, std::string* out) {
  const v1::DaemonStats& daemon = input.stats.daemon();
  absl::StrAppend(out, "<header><h1>pbkfsd</h1>",
                  input.not_ready.empty() ? "<span class=\"state ok\">ready</span>"
                                          : "<span class=\"state bad-text\">not ready</span>");
  for (const std::string& reason : input.not_ready) {
    absl::StrAppend(out, "<p class=bad-text>", EscapeHtml(reason), "</p>");
  }
  const auto& states = daemon.mounts_by_state();
  const auto of_state = [&states](const char* state) {
    const auto it = states.find(state);
    return it == states.end() ? uint64_t{0} : it->second;
  };
  out->append("<div class=tiles>");
  Tile(absl::StrCat(of_state("active")), "active mounts", out);
  Tile(Count(of_state("failed")), "failed mounts", out);
  Tile(Age(daemon.uptime()), "worker is up for", out);
  Tile(absl::StrCat(daemon.worker_restarts()), "worker restarts", out);
  Tile(SignedBytes(daemon.page_cache_bytes()), "page cache", out);
  Tile(SignedBytes(daemon.page_index_bytes()), "page indexes", out);
  out->append("</div></header>\n");
}

}  // namespace

std::string EscapeHtml(absl::string_view text) {
  std::string out;
  for (const char c : ToUtf8(text)) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += byte < 0x20 || byte == 0x7f ? '?' : c;
    }
  }
  return out;
}

std::string StatusPage(const StatusPageInput& input) {
  std::map<std::string, const v1::MountStats*> stats;
  for (const v1::MountStats& mount : input.stats.mounts()) stats[mount.mount_id()] = &mount;
  const auto stats_of = [&stats](const v1::Mount& mount) -> const v1::MountStats& {
    const auto it = stats.find(mount.mount_id());
    return it == stats.end() ? v1::MountStats::default_instance() : *it->second;
  };
  std::vector<const v1::Mount*> mounts;
  for (const v1::Mount& mount : input.mounts.mounts()) mounts.push_back(&mount);
  // What needs somebody comes first.
  std::stable_partition(mounts.begin(), mounts.end(), [&](const v1::Mount* mount) {
    return InTrouble(*mount, stats_of(*mount));
  });
  std::string out = absl::StrCat(
      "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\n"
      "<meta name=viewport content=\"width=device-width,initial-scale=1\">\n"
      "<meta http-equiv=refresh content=",
      kPageRefreshSeconds,
      ">\n"
      "<title>pbkfsd: ",
      mounts.size(), mounts.size() == 1 ? " mount" : " mounts", "</title>\n<style>", kStyle,
      "</style></head>\n<body>\n");
  AddSummary(input, &out);
  out += "<main>";
  if (mounts.empty())
    out += "<p class=dim>Nothing is mounted. See <code>pbkfs mount --help</code>.</p>";
  out += "<div class=grid>\n";
  const size_t shown = std::min(mounts.size(), kMaxPageMounts);
  for (size_t i = 0; i < shown; ++i) AddMount(*mounts[i], stats_of(*mounts[i]), &out);
  out += "</div>";
  if (shown < mounts.size()) {
    absl::StrAppend(&out, "<p>and ", mounts.size() - shown,
                    " more mounts; <code>pbkfs list</code> has all</p>");
  }
  absl::StrAppend(
      &out, "</main>\n<footer><p>pbkfsd ", EscapeHtml(input.stats.daemon().version()),
      ". Figures since each mount was made, as of ",
      absl::FormatTime("%Y-%m-%d %H:%M:%S UTC",
                       absl::FromUnixSeconds(input.stats.sampled_at().seconds()),
                       absl::UTCTimeZone()),
      ". <a href=metrics>metrics</a> · <a href=healthz>healthz</a> · <a href=readyz>readyz</a></p>"
      "</footer>\n</body></html>\n");
  return out;
}

}  // namespace pbkfs
