// What one keeper leaves to the program that takes its place in the same process: lines of fields
// that are separated by tabs. Descriptors are named by their numbers, which execve(2) keeps.
//
//   version  VERSIONS                                as HandoverVersions says
//   worker   PID SOCKET GENERATION RESTARTS OOM_SCORE
//   figures  FD
//   listener FD
//   mount    ID TARGET FLAGS ESTABLISHED FD FD FD FD FD REASON     -1 = no descriptor
#include <fcntl.h>

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "fs/base/status.h"
#include "service/keeper/keeper.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

absl::Status Unreadable(absl::string_view line) {
  return absl::DataLossError(
      absl::StrCat("the keeper before this one left a line that can't be "
                   "read: ",
                   line));
}

bool TakeDescriptor(absl::string_view text, UniqueFd* fd) {
  int number = -1;
  if (!absl::SimpleAtoi(text, &number)) return false;
  if (number < 0) return true;
  if (fcntl(number, F_SETFD, FD_CLOEXEC) != 0) return false;
  fd->Reset(number);
  return true;
}

}  // namespace

std::string Keeper::SaveState() const {
  std::string text = absl::StrCat("version\t", HandoverVersions(), "\n");
  absl::StrAppend(&text, "worker\t", worker_.pid, "\t", worker_.socket.get(), "\t", generation_,
                  "\t", restarts_, "\t", oom_score_, "\n");
  absl::StrAppend(&text, "figures\t", figures_.get(), "\n");
  for (const UniqueFd& listener : listeners_) {
    absl::StrAppend(&text, "listener\t", listener.get(), "\n");
  }
  for (const auto& [id, mount] : mounts_) {
    absl::StrAppend(&text, "mount\t", id, "\t", mount.target, "\t", mount.flags, "\t",
                    mount.established ? 1 : 0);
    for (const UniqueFd& fd : mount.descriptors) absl::StrAppend(&text, "\t", fd.get());
    const std::string reason = absl::StrReplaceAll(mount.reason, {{"\t", " "}, {"\n", " "}});
    absl::StrAppend(&text, "\t", reason, "\n");
  }
  return text;
}

absl::Status Keeper::LoadState(const std::string& state) {
  for (const absl::string_view line : absl::StrSplit(state, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, '\t');
    if (fields[0] == "version" && fields.size() == 2) {
      if (fields[1] != HandoverVersions()) return Unreadable(line);
    } else if (fields[0] == "worker" && fields.size() == 6) {
      if (!absl::SimpleAtoi(fields[1], &worker_.pid) ||
          !TakeDescriptor(fields[2], &worker_.socket) ||
          !absl::SimpleAtoi(fields[3], &generation_) || !absl::SimpleAtoi(fields[4], &restarts_) ||
          !absl::SimpleAtoi(fields[5], &oom_score_)) {
        return Unreadable(line);
      }
    } else if (fields[0] == "figures" && fields.size() == 2) {
      if (!TakeDescriptor(fields[1], &figures_)) return Unreadable(line);
    } else if (fields[0] == "listener" && fields.size() == 2) {
      if (!TakeDescriptor(fields[1], &listeners_.emplace_back())) return Unreadable(line);
    } else if (fields[0] == "mount" && fields.size() == 6 + HeldMount::kDescriptors) {
      HeldMount mount;
      mount.id = std::string(fields[1]);
      mount.target = std::string(fields[2]);
      if (!absl::SimpleAtoi(fields[3], &mount.flags)) return Unreadable(line);
      mount.established = fields[4] == "1";
      for (size_t i = 0; i < HeldMount::kDescriptors; ++i) {
        if (!TakeDescriptor(fields[5 + i], &mount.descriptors[i])) return Unreadable(line);
      }
      mount.reason = std::string(fields.back());
      mounts_[mount.id] = std::move(mount);
    } else {
      return Unreadable(line);
    }
  }
  worker_.ready = true;
  worker_.started = Clock::now();
  last_upgrade_ = absl::StrCat("done: version ", PBKFS_VERSION);
  spdlog::info("keeper: goes on as the new program, with worker {} and {} mounts", worker_.pid,
               mounts_.size());
  return absl::OkStatus();
}

}  // namespace pbkfs
