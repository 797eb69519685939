#include "client/diff_output.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "client/output.h"

namespace pbkfs::client {
namespace {

std::string Lower(absl::string_view name, absl::string_view prefix) {
  absl::ConsumePrefix(&name, prefix);
  return absl::StrReplaceAll(absl::AsciiStrToLower(name), {{"_", " "}});
}

std::string StateText(const v1::Diff& diff) {
  std::string text = Lower(v1::DiffState_Name(diff.state()), "DIFF_STATE_");
  if (diff.ephemeral()) absl::StrAppend(&text, diff.in_use() ? ", ephemeral" : ", left behind");
  return text;
}

std::string OrDash(const std::string& text) { return text.empty() ? "-" : text; }

}  // namespace

std::string ListDiffsText(const v1::ListDiffsResponse& response) {
  std::vector<std::vector<std::string>> rows = {
      {"STATE", "MOUNT", "INSTANCE", "BACKUP", "OWNER", "SIZE", "LAST USE", "PATH"}};
  for (const v1::Diff& diff : response.diffs()) {
    rows.push_back(
        {StateText(diff), OrDash(diff.mount_id()), OrDash(diff.instance()),
         OrDash(diff.backup_id()),
         diff.has_owner() ? absl::StrCat(diff.owner().uid(), ":", diff.owner().gid()) : "-",
         FormatBytes(diff.allocated_bytes()),
         diff.has_last_use_time() ? TimeText(diff.last_use_time()) : "-", diff.path()});
  }
  return FormatTable(rows);
}

std::string CheckDiffText(const v1::CheckDiffResponse& response) {
  std::string text;
  for (const v1::Finding& finding : response.findings()) {
    absl::StrAppend(&text, Lower(v1::FindingSeverity_Name(finding.severity()), "FINDING_SEVERITY_"),
                    " ", finding.code(), finding.subject().empty() ? "" : " ", finding.subject(),
                    ": ", finding.message(), "\n");
    if (!finding.remedy().empty()) {
      absl::StrAppend(&text, finding.repaired() ? "  repaired: " : "  --repair: ", finding.remedy(),
                      "\n");
    }
  }
  if (response.findings_omitted() > 0) {
    absl::StrAppend(&text, "and ", response.findings_omitted(), " more\n");
  }
  absl::StrAppend(&text, response.path(), ": ",
                  Lower(v1::DiffVerdict_Name(response.verdict()), "DIFF_VERDICT_"), "; ",
                  response.inodes(), " inodes, ", response.data_files(), " data files, ",
                  response.present_blocks(), " blocks of the backup replaced",
                  response.image_checked() ? ", compared with the backup" : "", "\n");
  return text;
}

std::string DeleteDiffText(const v1::DeleteDiffResponse& response) {
  return response.deleted() ? absl::StrCat(response.path(), " deleted\n")
                            : "there was nothing to delete\n";
}

}  // namespace pbkfs::client
