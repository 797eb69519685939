#include "client/commands.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "client/arguments.h"
#include "client/backups_output.h"
#include "client/channel.h"
#include "client/completion.h"
#include "client/daemon_output.h"
#include "client/diff_output.h"
#include "client/errors.h"
#include "client/help.h"
#include "client/output.h"
#include "client/progress.h"
#include "client/stats_output.h"
#include "client/status_macros.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "pbkfs/v1/catalog.grpc.pb.h"
#include "pbkfs/v1/daemon.grpc.pb.h"
#include "pbkfs/v1/diff_service.grpc.pb.h"
#include "pbkfs/v1/mount.grpc.pb.h"

namespace pbkfs::client {
namespace {

// A daemon that hangs must not hang scripts for ever. What only looks at the daemon's memory is
// answered at once; the rest may read a catalog or a diff on slow storage.
constexpr std::chrono::minutes kLongCall{10};
constexpr std::chrono::seconds kShortCall{30};
// Longer than a worker needs to be replaced.
constexpr std::chrono::seconds kConnectTimeout{5};
// Nobody waits for a completion for longer.
constexpr std::chrono::seconds kCompletionTimeout{1};
// After this the keeper has long given up on a new program, and has gone back to the old one.
constexpr std::chrono::minutes kUpgradeTimeout{2};
constexpr std::chrono::milliseconds kUpgradePoll{200};
// Between two looks at who keeps a mount busy: short at first, since mostly it is over soon.
constexpr std::chrono::seconds kFirstWait{1};
constexpr std::chrono::seconds kLongestWait{8};

using Clock = std::chrono::system_clock;

// A channel that is connected, or has failed to connect, or has not managed to within the time.
absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(
    const std::string& address, const std::function<std::string(const std::string&)>& option,
    std::chrono::seconds timeout, bool* timed_out) {
  CLIENT_ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel, MakeChannel(address, option));
  const Clock::time_point deadline = Clock::now() + timeout;
  grpc_connectivity_state state = channel->GetState(true);
  while (state == GRPC_CHANNEL_IDLE || state == GRPC_CHANNEL_CONNECTING) {
    if (!channel->WaitForStateChange(state, deadline)) {
      *timed_out = true;
      break;
    }
    state = channel->GetState(true);
  }
  return channel;
}

std::string UsageText(const absl::Status& status, const std::string& command) {
  return absl::StrCat("pbkfs: ", Printable(status.message()), "\nnext step: see pbkfs ",
                      command.empty() ? "" : absl::StrCat(CommandTitle(command), " "), "--help\n");
}

// One run: the arguments, where to print, and the daemon.
class Session {
 public:
  Session(const Arguments& arguments, const Surroundings& surroundings, std::ostream& out,
          std::ostream& err)
      : arguments_(arguments),
        directory_(surroundings.directory),
        palette_(surroundings.colours),
        live_progress_(surroundings.live_progress),
        out_(out),
        err_(err) {}

  int Run() {
    if (arguments_.command == "completion") return Completion();
    bool timed_out = false;
    absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = Connect(
        arguments_.address, [this](const std::string& name) { return arguments_.Value(name); },
        kConnectTimeout, &timed_out);
    if (!channel.ok()) return Usage(channel.status());
    channel_ = *std::move(channel);
    if (timed_out) {
      err_ << UnreachableText(Title(), arguments_.address,
                              absl::StrCat("it has not answered for ", kConnectTimeout.count(),
                                           " seconds; it is stopped, or hangs"));
      return kExitUnreachable;
    }
    const int code = RunCommand();
    return code == kExitDone ? CheckOutput() : code;
  }

 private:
  int RunCommand() {
    if (arguments_.command == "mount") return Mount();
    if (arguments_.command == "unmount") return Unmount();
    if (arguments_.command == "list") return List();
    if (arguments_.command == "stats") {
      return arguments_.Has("watch") || arguments_.Has("reset") ? WatchStats() : Stats();
    }
    if (arguments_.command == "diff-list") return ListDiffs();
    if (arguments_.command == "diff-check") return CheckDiff();
    if (arguments_.command == "diff-delete") return DeleteDiff();
    if (arguments_.command == "daemon-status") return DaemonStatus();
    if (arguments_.command == "daemon-reload") return Reload();
    if (arguments_.command == "daemon-upgrade") return Upgrade();
    if (arguments_.command == "daemon-dump") return DebugDump();
    if (arguments_.command == "daemon-log-level") return SetLogLevel();
    return Backups();
  }

  int Mount() {
    const absl::StatusOr<v1::MountRequest> request = MountRequestOf(arguments_, directory_);
    if (!request.ok()) return Usage(request.status());
    const bool dry_run = request->validate_only();
    Wait(absl::StrCat(dry_run ? "checking a backup of " : "mounting a backup of ",
                      request->instance()));
    return Call<v1::Mount>(
        *request, &v1::MountService::Stub::Mount, Within(kLongCall), Mounts(),
        [&](const v1::Mount& mount) { return MountText(mount, dry_run, palette_); },
        [&](const v1::Mount& mount) { NextStep(MountNextStep(mount, dry_run)); });
  }

  // The wait is cut into pieces, so that it can be told who is waited for.
  int Unmount() {
    absl::StatusOr<v1::UnmountRequest> request = UnmountRequestOf(arguments_, directory_);
    if (!request.ok()) return Usage(request.status());
    const bool force = request->force();
    const auto until = Clock::now() + std::chrono::seconds(request->wait().seconds()) +
                       std::chrono::duration_cast<Clock::duration>(
                           std::chrono::nanoseconds(request->wait().nanos()));
    Wait(absl::StrCat("unmounting ", arguments_.operands[0]));
    std::chrono::nanoseconds piece = kFirstWait;
    while (true) {
      const std::chrono::nanoseconds rest = until - Clock::now();
      const bool last = rest <= piece;
      SetWait(std::max(std::chrono::nanoseconds(0), std::min(rest, piece)), &*request);
      request->set_force(force && last);
      grpc::ClientContext context;
      context.set_deadline(Within(kLongCall));
      v1::UnmountResponse response;
      const grpc::Status status = Mounts()->Unmount(&context, *request, &response);
      if (!last && ReasonOfDetails(status.error_details()) == "TARGET_BUSY") {
        const std::string& message = status.error_message();
        progress_->Say(absl::StrCat("waiting: ", message.substr(0, message.find(';'))));
        piece = std::min<std::chrono::nanoseconds>(2 * piece, kLongestWait);
        continue;
      }
      if (status.ok()) {
        Print(response, UnmountText);
        NextStep(UnmountNextStep(response));
      }
      return Result(status);
    }
  }

  int List() {
    return Call<v1::ListMountsResponse>(
        v1::ListMountsRequest(), &v1::MountService::Stub::ListMounts, Within(kShortCall), Mounts(),
        [&](const v1::ListMountsResponse& response) { return ListText(response, palette_); },
        [&](const v1::ListMountsResponse& response) { NextStep(ListNextStep(response)); });
  }

  int Stats() {
    const absl::StatusOr<v1::StatsRequest> request = StatsRequestOf(arguments_);
    if (!request.ok()) return Usage(request.status());
    return Call<v1::StatsResponse>(*request, &v1::MountService::Stub::Stats, Within(kShortCall),
                                   Mounts(), StatsText);
  }

  int WatchStats() {
    v1::WatchStatsRequest request;
    if (!arguments_.operands.empty()) request.set_mount_id(arguments_.operands[0]);
    grpc::ClientContext context;
    const auto stub = Mounts();
    const auto reader = stub->WatchStats(&context, request);
    StatsWatch watch(arguments_.Has("reset"));
    v1::StatsResponse response;
    while (reader->Read(&response)) {
      if (!watch.Add(std::move(response))) continue;
      Print(watch.Totals(), [&watch](const v1::StatsResponse&) { return watch.Text(); });
      if (arguments_.Has("watch")) continue;
      context.TryCancel();
      while (reader->Read(&response)) {
        // Finish waits for ever where there is something left to read.
      }
      reader->Finish();
      return kExitDone;
    }
    return Result(reader->Finish());
  }

  int Backups() {
    const absl::StatusOr<v1::ListBackupsRequest> request =
        ListBackupsRequestOf(arguments_, directory_);
    if (!request.ok()) return Usage(request.status());
    Wait(absl::StrCat("reading the catalog ", request->store()));
    return Call<v1::ListBackupsResponse>(
        *request, &v1::CatalogService::Stub::ListBackups, Within(kLongCall),
        v1::CatalogService::NewStub(channel_),
        [&](const v1::ListBackupsResponse& response) { return BackupsText(response, palette_); });
  }

  int ListDiffs() {
    const absl::StatusOr<v1::ListDiffsRequest> request = ListDiffsRequestOf(arguments_, directory_);
    if (!request.ok()) return Usage(request.status());
    Wait("measuring diffs");
    return Call<v1::ListDiffsResponse>(
        *request, &v1::DiffService::Stub::ListDiffs, Within(kLongCall), Diffs(),
        [&](const v1::ListDiffsResponse& response) { return ListDiffsText(response, palette_); });
  }

  int CheckDiff() {
    const absl::StatusOr<v1::CheckDiffRequest> request = CheckDiffRequestOf(arguments_, directory_);
    if (!request.ok()) return Usage(request.status());
    Wait(absl::StrCat("checking ", arguments_.operands[0]));
    // The call succeeds also where the diff is damaged; scripts need the exit code all the same.
    bool corrupt = false;
    const int code = Call<v1::CheckDiffResponse>(
        *request, &v1::DiffService::Stub::CheckDiff, Within(kLongCall), Diffs(),
        [&](const v1::CheckDiffResponse& response) { return CheckDiffText(response, palette_); },
        [&](const v1::CheckDiffResponse& response) {
          corrupt = response.verdict() == v1::DIFF_VERDICT_CORRUPT;
          NextStep(CheckDiffNextStep(response));
        });
    if (!corrupt) return code;
    const CallError damaged{
        static_cast<int>(absl::StatusCode::kDataLoss),
        "the diff is damaged; keep a copy of it, and mount the backup with a new diff", ""};
    err_ << ErrorText(Title(), damaged, arguments_.address) << "reason: DIFF_CORRUPT\n";
    return ExitCodeOf(damaged.code);
  }

  int DeleteDiff() {
    const absl::StatusOr<v1::DeleteDiffRequest> request =
        DeleteDiffRequestOf(arguments_, directory_);
    if (!request.ok()) return Usage(request.status());
    Wait(absl::StrCat("deleting ", arguments_.operands[0]));
    return Call<v1::DeleteDiffResponse>(*request, &v1::DiffService::Stub::DeleteDiff,
                                        Within(kLongCall), Diffs(), DeleteDiffText);
  }

  int DaemonStatus() {
    return Call<v1::DaemonStatus>(
        v1::GetStatusRequest(), &v1::DaemonService::Stub::GetStatus, Within(kShortCall), Daemon(),
        [&](const v1::DaemonStatus& status) { return DaemonStatusText(status, palette_); });
  }

  int Reload() {
    Wait("reloading; mounts of the configuration are being made");
    return Call<v1::ReloadResponse>(
        v1::ReloadRequest(), &v1::DaemonService::Stub::Reload, Within(kLongCall), Daemon(),
        [&](const v1::ReloadResponse& response) { return ReloadText(response, palette_); },
        [&](const v1::ReloadResponse& response) { NextStep(ReloadNextStep(response)); });
  }

  int Upgrade() {
    grpc::Status status;
    const auto begin = Within(kShortCall);
    v1::DaemonStatus before;
    v1::UpgradeResponse began;
    {
      grpc::ClientContext context;
      context.set_deadline(begin);
      status = Daemon()->GetStatus(&context, v1::GetStatusRequest(), &before);
    }
    if (status.ok()) {
      grpc::ClientContext context;
      context.set_deadline(begin);
      status = Daemon()->Upgrade(&context, v1::UpgradeRequest(), &began);
    }
    if (!status.ok()) return Result(status);
    return WaitForUpgrade(before, began);
  }

  // The daemon answers all the while, but for the moment in which the workers change.
  int WaitForUpgrade(const v1::DaemonStatus& before, const v1::UpgradeResponse& began) {
    const auto deadline = Within(kUpgradeTimeout);
    Wait("waiting for the new program to serve");
    grpc::Status status;
    while (Clock::now() < deadline) {
      grpc::ClientContext context;
      context.set_deadline(std::min(deadline, Clock::now() + kConnectTimeout));
      context.set_wait_for_ready(true);
      v1::DaemonStatus now;
      status = Daemon()->GetStatus(&context, v1::GetStatusRequest(), &now);
      const UpgradeState state =
          status.ok() ? UpgradeStateOf(before, began, now) : UpgradeState::kPending;
      if (state == UpgradeState::kPending) {
        std::this_thread::sleep_for(kUpgradePoll);
        continue;
      }
      if (state == UpgradeState::kDone) {
        Print(now, [&](const v1::DaemonStatus&) { return UpgradeText(began, now); });
        return kExitDone;
      }
      progress_.reset();
      err_ << "pbkfs: daemon upgrade failed: " << Printable(now.last_upgrade())
           << "\nnext step: the old program serves, and the mounts live; see the daemon's log for "
              "what the new one said\n";
      return kExitFailed;
    }
    return Result(grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, status.error_message()));
  }

  int DebugDump() {
    const absl::StatusOr<v1::DebugDumpRequest> request = DebugDumpRequestOf(arguments_);
    if (!request.ok()) return Usage(request.status());
    return Call<v1::DebugDumpResponse>(
        *request, &v1::DaemonService::Stub::DebugDump, Within(kShortCall), Daemon(),
        [](const v1::DebugDumpResponse& response) { return response.text(); });
  }

  int SetLogLevel() {
    const absl::StatusOr<v1::SetLogLevelRequest> request = SetLogLevelRequestOf(arguments_);
    if (!request.ok()) return Usage(request.status());
    return Call<v1::SetLogLevelResponse>(
        *request, &v1::DaemonService::Stub::SetLogLevel, Within(kShortCall), Daemon(),
        [&](const v1::SetLogLevelResponse& response) {
          return absl::StrCat("log level ", request->level(), ", it was ", response.previous(),
                              "\n");
        });
  }

  int Completion() {
    const std::string shell = arguments_.operands.empty() ? "" : arguments_.operands[0];
    const absl::string_view script = CompletionScript(shell);
    if (script.empty()) return Usage(absl::InvalidArgumentError("completion needs bash or zsh"));
    out_ << script << std::flush;
    return CheckOutput();
  }

  // One unary call; `text` makes the table of the answer.
  template <typename Response, typename Request, typename Method, typename Stub, typename Text>
  int Call(
      const Request& request, Method method, std::chrono::system_clock::time_point deadline,
      const std::unique_ptr<Stub>& stub, Text text,
      const std::function<void(const Response&)>& look = [](const Response&) {}) {
    grpc::ClientContext context;
    context.set_deadline(deadline);
    Response response;
    const grpc::Status status = ((*stub).*method)(&context, request, &response);
    if (status.ok()) {
      Print(response, text);
      look(response);
    }
    return Result(status);
  }

  template <typename Response, typename Text>
  void Print(const Response& response, Text text) {
    progress_.reset();
    errno = 0;
    out_ << (arguments_.json ? ToJson(response) : text(response)) << std::flush;
    if (!out_ && output_error_ == 0) output_error_ = errno;
  }

  // A reader that has seen enough is no failure; a full disk is.
  int CheckOutput() {
    if (out_ || output_error_ == EPIPE) return kExitDone;
    err_ << "pbkfs: " << Title()
         << " was done, but its answer can't be written: " << std::strerror(output_error_) << "\n";
    return kExitFailed;
  }

  // For people; programs know.
  void NextStep(const std::string& text) {
    if (!arguments_.json && !text.empty()) err_ << "next step: " << text << "\n";
  }

  int Result(const grpc::Status& status) {
    progress_.reset();
    const int code = static_cast<int>(status.error_code());
    if (!status.ok()) {
      err_ << ErrorText(Title(), CallError{code, status.error_message(), status.error_details()},
                        arguments_.address);
    }
    return ExitCodeOf(code);
  }

  int Usage(const absl::Status& status) {
    err_ << UsageText(status, arguments_.command);
    return kExitUsage;
  }

  std::string Title() const { return CommandTitle(arguments_.command); }
  // Tells what is waited for, until something is printed.
  void Wait(std::string what) { progress_.emplace(err_, live_progress_, std::move(what)); }

  std::unique_ptr<v1::MountService::Stub> Mounts() const {
    return v1::MountService::NewStub(channel_);
  }
  std::unique_ptr<v1::DiffService::Stub> Diffs() const {
    return v1::DiffService::NewStub(channel_);
  }
  std::unique_ptr<v1::DaemonService::Stub> Daemon() const {
    return v1::DaemonService::NewStub(channel_);
  }
  // The deadline of a call that begins now.
  template <typename Duration>
  Clock::time_point Within(Duration otherwise) const {
    if (arguments_.timeout <= absl::ZeroDuration()) return Clock::now() + otherwise;
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(
                              absl::ToChronoNanoseconds(arguments_.timeout));
  }

  static void SetWait(std::chrono::nanoseconds wait, v1::UnmountRequest* request) {
    if (!request->has_wait()) return;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(wait);
    request->mutable_wait()->set_seconds(seconds.count());
    request->mutable_wait()->set_nanos(static_cast<int32_t>((wait - seconds).count()));
  }

  const Arguments& arguments_;
  const std::string& directory_;
  const Palette palette_;
  const bool live_progress_;
  std::ostream& out_;
  std::ostream& err_;
  std::shared_ptr<grpc::Channel> channel_;
  std::optional<Progress> progress_;
  int output_error_ = 0;
};

// Asks the daemon for what a word can be, and keeps quiet where it does not answer.
class Candidates {
 public:
  explicit Candidates(const Surroundings& surroundings) : surroundings_(surroundings) {}

  std::vector<std::string> operator()(absl::string_view kind, const GivenOptions& given) {
    const auto value = [&given](const std::string& name) {
      const auto found = given.find(name);
      return found == given.end() ? std::string() : found->second;
    };
    const absl::StatusOr<std::string> address = AddressOf(value("address"), surroundings_.address);
    if (!address.ok()) return {};
    bool timed_out = false;
    absl::StatusOr<std::shared_ptr<grpc::Channel>> channel =
        Connect(*address, value, kCompletionTimeout, &timed_out);
    if (!channel.ok() || timed_out) return {};
    channel_ = *std::move(channel);
    const std::string store =
        (std::filesystem::path(surroundings_.directory) / value("store")).lexically_normal();
    if (kind == kMountKind) return MountIds();
    if (kind == kDiffKind) return DiffIds();
    if (value("store").empty()) return {};
    return kind == kInstanceKind ? InstanceNames(store) : BackupIds(store, value("instance"));
  }

 private:
  std::vector<std::string> MountIds() {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::ListMountsResponse response;
    v1::MountService::NewStub(channel_)->ListMounts(&context, v1::ListMountsRequest(), &response);
    std::vector<std::string> ids;
    for (const v1::Mount& mount : response.mounts()) ids.push_back(mount.mount_id());
    return ids;
  }

  // Those in the state directory, which go by the id of their mount, and are not mounted.
  std::vector<std::string> DiffIds() {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::ListDiffsResponse response;
    v1::DiffService::NewStub(channel_)->ListDiffs(&context, v1::ListDiffsRequest(), &response);
    std::vector<std::string> ids;
    for (const v1::Diff& diff : response.diffs()) {
      if (!diff.in_use()) ids.push_back(std::filesystem::path(diff.path()).filename());
    }
    return ids;
  }

  std::vector<std::string> InstanceNames(const std::string& store) {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::ListInstancesRequest request;
    request.set_store(store);
    v1::ListInstancesResponse response;
    v1::CatalogService::NewStub(channel_)->ListInstances(&context, request, &response);
    std::vector<std::string> names;
    for (const v1::Instance& instance : response.instances()) names.push_back(instance.name());
    return names;
  }

  std::vector<std::string> BackupIds(const std::string& store, const std::string& instance) {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::ListBackupsRequest request;
    request.set_store(store);
    request.set_instance(instance);
    v1::ListBackupsResponse response;
    v1::CatalogService::NewStub(channel_)->ListBackups(&context, request, &response);
    std::vector<std::string> ids = {"latest"};
    for (const v1::Backup& backup : response.backups()) {
      if (backup.mountable()) ids.push_back(backup.backup_id());
    }
    return ids;
  }

  static void SetDeadline(grpc::ClientContext* context) {
    context->set_deadline(Clock::now() + kCompletionTimeout);
  }

  const Surroundings& surroundings_;
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace

int RunClient(const std::vector<std::string>& words, const Surroundings& surroundings,
              std::ostream& out, std::ostream& err) {
  if (!words.empty() && words[0] == "__complete") {
    out << Complete({words.begin() + 1, words.end()}, Candidates(surroundings)) << std::flush;
    return kExitDone;
  }
  const absl::StatusOr<Arguments> arguments = ParseArguments(words, surroundings.address);
  if (!arguments.ok()) {
    err << UsageText(arguments.status(), TopicOf(words));
    return kExitUsage;
  }
  if (arguments->version) {
    out << "pbkfs " PBKFS_VERSION "\n" << std::flush;
    return kExitDone;
  }
  if (arguments->help) {
    const absl::string_view text = HelpText(arguments->command);
    out << text;
    if (text != HelpText("")) {
      out << "\npbkfs --help tells of --address, -o json, --timeout and exit codes.\n";
    }
    out << std::flush;
    return kExitDone;
  }
  if (arguments->command.empty()) {
    err << HelpText("");
    return kExitUsage;
  }
  return Session(*arguments, surroundings, out, err).Run();
}

}  // namespace pbkfs::client
