#include "client/diff_output.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/output.h"

namespace pbkfs::client {
namespace {

Cell StateCell(const v1::Diff& diff) {
  std::string text = EnumText(v1::DiffState_Name(diff.state()), "DIFF_STATE_");
  if (diff.ephemeral()) absl::StrAppend(&text, diff.in_use() ? ", ephemeral" : ", left behind");
  const bool bad = diff.state() == v1::DIFF_STATE_DAMAGED;
  const bool odd =
      diff.state() == v1::DIFF_STATE_UNCLEAN || diff.state() == v1::DIFF_STATE_UNSUPPORTED ||
      diff.state() == v1::DIFF_STATE_HALF_DELETED || (diff.ephemeral() && !diff.in_use());
  return {std::move(text), bad ? Style::kBad : odd ? Style::kWarning : Style::kPlain};
}

Style SeverityStyle(v1::FindingSeverity severity) {
  switch (severity) {
    case v1::FINDING_SEVERITY_ERROR:
      return Style::kBad;
    case v1::FINDING_SEVERITY_WARNING:
      return Style::kWarning;
    default:
      return Style::kPlain;
  }
}

Style VerdictStyle(v1::DiffVerdict verdict) {
  switch (verdict) {
    case v1::DIFF_VERDICT_CORRUPT:
      return Style::kBad;
    case v1::DIFF_VERDICT_WARNINGS:
      return Style::kWarning;
    default:
      return Style::kGood;
  }
}

std::string OrDash(const std::string& text) { return text.empty() ? "-" : text; }

}  // namespace

std::string ListDiffsText(const v1::ListDiffsResponse& response, const Palette& palette) {
  std::vector<std::vector<Cell>> rows = {{"STATE", "MOUNT", "INSTANCE", "BACKUP", "OWNER",
                                          Cell("SIZE", Style::kPlain, true), "LAST USE", "PATH"}};
  for (const v1::Diff& diff : response.diffs()) {
    rows.push_back(
        {StateCell(diff), OrDash(diff.mount_id()), OrDash(diff.instance()),
         OrDash(diff.backup_id()),
         diff.has_owner() ? absl::StrCat(diff.owner().uid(), ":", diff.owner().gid()) : "-",
         Cell(FormatBytes(diff.allocated_bytes()), Style::kPlain, true),
         diff.has_last_use_time() ? TimeText(diff.last_use_time()) : "-", diff.path()});
  }
  return FormatTable(rows, palette);
}

std::string CheckDiffText(const v1::CheckDiffResponse& response, const Palette& palette) {
  std::string text;
  for (const v1::Finding& finding : response.findings()) {
    const std::string severity =
        EnumText(v1::FindingSeverity_Name(finding.severity()), "FINDING_SEVERITY_");
    absl::StrAppend(&text, palette.Paint(SeverityStyle(finding.severity()), severity), " ",
                    Printable(finding.code()), finding.subject().empty() ? "" : " ",
                    Printable(finding.subject()), ": ", Printable(finding.message()), "\n");
    if (!finding.remedy().empty()) {
      absl::StrAppend(&text, finding.repaired() ? "  repaired: " : "  --repair: ",
                      Printable(finding.remedy()), "\n");
    }
  }
  if (response.findings_omitted() > 0) {
    absl::StrAppend(&text, "and ", response.findings_omitted(), " more\n");
  }
  const std::string verdict = EnumText(v1::DiffVerdict_Name(response.verdict()), "DIFF_VERDICT_");
  absl::StrAppend(&text, Printable(response.path()), ": ",
                  palette.Paint(VerdictStyle(response.verdict()), verdict), "; ", response.inodes(),
                  " inodes, ", response.data_files(), " data files, ", response.present_blocks(),
                  " blocks of the backup replaced",
                  response.image_checked() ? ", compared with the backup" : "", "\n");
  return text;
}

std::string CheckDiffNextStep(const v1::CheckDiffResponse& response) {
  if (response.verdict() == v1::DIFF_VERDICT_CORRUPT) return "";
  for (const v1::Finding& finding : response.findings()) {
    if (finding.remedy().empty() || finding.repaired()) continue;
    return absl::StrCat("pbkfs diff check ", Printable(response.path()),
                        " --repair; it can be mounted as it is, too");
  }
  if (response.needs_recovery()) {
    return "mount it once, which recovers what its last mount left, or delete it";
  }
  return absl::StrCat("it can be mounted; to throw it away: pbkfs diff delete ",
                      Printable(response.path()));
}

std::string DeleteDiffText(const v1::DeleteDiffResponse& response) {
  return response.deleted() ? absl::StrCat(Printable(response.path()), " deleted\n")
                            : "there was nothing to delete\n";
}

}  // namespace pbkfs::client
