#include "service/default_config.h"

#include <pwd.h>

#include <array>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "service/limits.h"
#include "service/lower_files.h"

namespace pbkfs {
namespace {

constexpr char kMainFile[] = "postgresql.conf";
constexpr char kHbaFile[] = "pg_hba.conf";
constexpr char kIdentFile[] = "pg_ident.conf";
constexpr char kMapName[] = "pbkfs";

constexpr char kHeader[] =
    "# Written by pbkfs, because the backup has no such file (Debian keeps it in /etc).\n";

std::string MainFile(const PgControl& control) {
  return absl::StrCat(kHeader, "# No TCP; set listen_addresses and pg_hba.conf to change that.\n",
                      "listen_addresses = ''\n",
                      "# As on the server that was backed up: recovery refuses smaller values.\n",
                      "max_connections = ", control.max_connections, "\n",
                      "max_worker_processes = ", control.max_worker_processes, "\n",
                      "max_wal_senders = ", control.max_wal_senders, "\n",
                      "max_prepared_transactions = ", control.max_prepared_transactions, "\n",
                      "max_locks_per_transaction = ", control.max_locks_per_transaction, "\n",
                      "wal_level = ", WalLevelName(control.wal_level), "\n");
}

std::string HbaFile() {
  return absl::StrCat(kHeader, "# Local users as whom pg_ident.conf says; nobody else.\n",
                      "local all all peer map=", kMapName, "\n");
}

std::string IdentFile(const std::string& owner) {
  std::string text = absl::StrCat(
      kHeader, "# Everybody as the role of the same name, and the clone's owner as postgres.\n",
      kMapName, " /^(.*)$ \\1\n");
  if (!owner.empty() && owner != "postgres") {
    absl::StrAppend(&text, kMapName, " \"", owner, "\" postgres\n");
  }
  return text;
}

std::string AccountName(uint32_t uid) {
  std::array<char, 16384> buffer;
  struct passwd account;
  struct passwd* found = nullptr;
  if (getpwuid_r(uid, &account, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) {
    return "";
  }
  const std::string name = account.pw_name;
  // It is written into a file whose syntax has quotes and lines.
  return name.find_first_of("\"\n\r") == std::string::npos ? name : "";
}

}  // namespace

std::vector<std::string> MissingConfigFiles(const LowerTree& tree) {
  std::vector<std::string> missing;
  for (const char* name : {kMainFile, kHbaFile, kIdentFile}) {
    if (absl::IsNotFound(ReadLowerFile(tree, name, kMaxConfigFileBytes).status())) {
      missing.emplace_back(name);
    }
  }
  return missing;
}

std::vector<DefaultFile> MakeDefaultFiles(const std::vector<std::string>& missing,
                                          const PgControl& control, const std::string& owner) {
  std::vector<DefaultFile> files;
  for (const std::string& name : missing) {
    if (name == kMainFile) files.push_back({name, MainFile(control)});
    if (name == kHbaFile) files.push_back({name, HbaFile()});
    if (name == kIdentFile) files.push_back({name, IdentFile(owner)});
  }
  return files;
}

absl::StatusOr<std::vector<DefaultFile>> DefaultFilesFor(const LowerTree& tree,
                                                         uint32_t owner_uid) {
  const std::vector<std::string> missing = MissingConfigFiles(tree);
  if (missing.empty()) return std::vector<DefaultFile>();
  PBKFS_ASSIGN_OR_RETURN(const std::string bytes,
                         ReadLowerFile(tree, "global/pg_control", kMaxConfigFileBytes));
  const absl::StatusOr<PgControl> control = ParsePgControl(bytes);
  if (!control.ok()) return Annotate(control.status(), "default_config");
  return MakeDefaultFiles(missing, *control, AccountName(owner_uid));
}

}  // namespace pbkfs
