#include "client/backups_output.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/output.h"

namespace pbkfs::client {
namespace {

// Daily increments over years make long chains; a deeper level would tell nobody more.
constexpr size_t kMaxIndent = 12;
// Why the first of them can't be mounted; mostly the others can't for the same cause.
constexpr size_t kMaxReasons = 20;

struct Node {
  const v1::Backup* backup = nullptr;
  size_t depth = 0;
};

// Depth first. What is below no root, because the catalog's parents go round, comes last.
std::vector<Node> InTreeOrder(const std::vector<const v1::Backup*>& backups) {
  std::map<std::string, size_t> by_id;
  for (size_t i = 0; i < backups.size(); ++i) by_id.emplace(backups[i]->backup_id(), i);
  std::vector<std::vector<size_t>> children(backups.size());
  std::vector<size_t> roots;
  for (size_t i = 0; i < backups.size(); ++i) {
    const auto parent = by_id.find(backups[i]->parent_id());
    if (parent == by_id.end() || parent->second == i) {
      roots.push_back(i);
    } else {
      children[parent->second].push_back(i);
    }
  }
  std::vector<Node> order;
  std::vector<bool> listed(backups.size());
  const auto list_below = [&](size_t root) {
    std::vector<std::pair<size_t, size_t>> open = {{root, 0}};  // Index and depth.
    while (!open.empty()) {
      const auto [index, depth] = open.back();
      open.pop_back();
      if (listed[index]) continue;
      listed[index] = true;
      order.push_back({backups[index], depth});
      for (auto child = children[index].rbegin(); child != children[index].rend(); ++child) {
        open.emplace_back(*child, depth + 1);
      }
    }
  };
  for (const size_t root : roots) list_below(root);
  for (size_t i = 0; i < backups.size(); ++i) list_below(i);
  return order;
}

std::string OrDash(const std::string& text) { return text.empty() ? "-" : text; }

Cell Size(int64_t bytes) { return {FormatBytes(bytes), Style::kPlain, true}; }

std::vector<Cell> RowOf(const Node& node) {
  const v1::Backup& backup = *node.backup;
  const bool usable = backup.status() == "OK" || backup.status() == "DONE";
  const auto& taken = backup.has_recovery_time() ? backup.recovery_time() : backup.start_time();
  const bool has_time = backup.has_recovery_time() || backup.has_start_time();
  return {absl::StrCat(std::string(2 * std::min(node.depth, kMaxIndent), ' '), backup.backup_id()),
          OrDash(backup.mode()),
          backup.stream() ? "STREAM" : "ARCHIVE",
          Cell(backup.status(), usable ? Style::kPlain : Style::kWarning),
          OrDash(backup.server_version()),
          OrDash(backup.compress_alg()),
          has_time ? TimeText(taken) : "-",
          Size(backup.data_bytes()),
          Size(backup.wal_bytes()),
          Size(backup.pgdata_bytes()),
          backup.mountable()
              ? Cell("yes", Style::kGood)
              : Cell(absl::StrCat("no: ", backup.unmountable_reason()), Style::kBad)};
}

std::string InstanceText(const std::string& name, const std::vector<const v1::Backup*>& backups,
                         const Palette& palette) {
  const std::vector<Node> order = InTreeOrder(backups);
  std::vector<std::vector<Cell>> rows = {{"BACKUP", "MODE", "WAL", "STATUS", "SERVER", "CODEC",
                                          "TAKEN", Cell("DATA", Style::kPlain, true),
                                          Cell("WAL SIZE", Style::kPlain, true),
                                          Cell("PGDATA", Style::kPlain, true), "MOUNTABLE"}};
  size_t chains = 0;
  size_t mountable = 0;
  std::string reasons;
  size_t unmountable = 0;
  for (const Node& node : order) {
    rows.push_back(RowOf(node));
    if (node.depth == 0) ++chains;
    if (node.backup->mountable()) {
      ++mountable;
    } else if (++unmountable <= kMaxReasons) {
      absl::StrAppend(&reasons, palette.Paint(Style::kBad, Printable(node.backup->backup_id())),
                      ": ", Printable(node.backup->unmountable_message()), "\n");
    }
  }
  if (unmountable > kMaxReasons) {
    absl::StrAppend(&reasons, "and ", unmountable - kMaxReasons, " more; see pbkfs -o json\n");
  }
  return absl::StrCat(palette.Paint(Style::kHeader, absl::StrCat("instance ", Printable(name))),
                      ": ", order.size(), order.size() == 1 ? " backup, " : " backups, ", chains,
                      chains == 1 ? " chain, " : " chains, ", mountable, " can be mounted\n",
                      FormatTable(rows, palette), reasons);
}

}  // namespace

std::string BackupsText(const v1::ListBackupsResponse& response, const Palette& palette) {
  // The instances in the order of the answer.
  std::vector<std::pair<std::string, std::vector<const v1::Backup*>>> instances;
  for (const v1::Backup& backup : response.backups()) {
    if (instances.empty() || instances.back().first != backup.instance()) {
      instances.push_back({backup.instance(), {}});
    }
    instances.back().second.push_back(&backup);
  }
  if (instances.empty()) return "there are no backups\n";
  std::string text;
  for (const auto& [name, backups] : instances) {
    absl::StrAppend(&text, text.empty() ? "" : "\n", InstanceText(name, backups, palette));
  }
  return text;
}

}  // namespace pbkfs::client
