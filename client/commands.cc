#include "client/commands.h"

#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "client/arguments.h"
#include "client/channel.h"
#include "client/diff_output.h"
#include "client/errors.h"
#include "client/help.h"
#include "client/output.h"
#include "client/stats_output.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "pbkfs/v1/catalog.grpc.pb.h"
#include "pbkfs/v1/diff_service.grpc.pb.h"
#include "pbkfs/v1/mount.grpc.pb.h"

namespace pbkfs::client {
namespace {

// Mounting a catalog on slow storage may take a while; a daemon that hangs must not hang scripts
// for ever.
constexpr std::chrono::minutes kCallTimeout{10};

// One run: the arguments, where to print, and the daemon.
class Session {
 public:
  Session(const Arguments& arguments, std::shared_ptr<grpc::Channel> channel,
          const std::string& directory, std::ostream& out, std::ostream& err)
      : arguments_(arguments),
        channel_(std::move(channel)),
        directory_(directory),
        out_(out),
        err_(err) {}

  int Run() {
    if (arguments_.command == "mount") return Mount();
    if (arguments_.command == "unmount") return Unmount();
    if (arguments_.command == "list") return List();
    if (arguments_.command == "stats") {
      return arguments_.Has("watch") || arguments_.Has("reset") ? WatchStats() : Stats();
    }
    if (arguments_.command == "diff-list") return ListDiffs();
    if (arguments_.command == "diff-check") return CheckDiff();
    if (arguments_.command == "diff-delete") return DeleteDiff();
    return Backups();
  }

 private:
  int Mount() {
    const absl::StatusOr<v1::MountRequest> request = MountRequestOf(arguments_, directory_);
    if (!request.ok()) return Usage(request.status());
    return Call<v1::Mount>(
        *request, &v1::MountService::Stub::Mount, Timeout(), Mounts(),
        [&](const v1::Mount& mount) { return MountText(mount, request->validate_only()); });
  }

  int Unmount() {
    const absl::StatusOr<v1::UnmountRequest> request = UnmountRequestOf(arguments_, directory_);
    if (!request.ok()) return Usage(request.status());
    const auto deadline = Timeout() + std::chrono::seconds(request->wait().seconds());
    return Call<v1::UnmountResponse>(*request, &v1::MountService::Stub::Unmount, deadline, Mounts(),
                                     UnmountText);
  }

  int List() {
    return Call<v1::ListMountsResponse>(v1::ListMountsRequest(),
                                        &v1::MountService::Stub::ListMounts, Timeout(), Mounts(),
                                        ListText);
  }

  int Stats() {
    const absl::StatusOr<v1::StatsRequest> request = StatsRequestOf(arguments_);
    if (!request.ok()) return Usage(request.status());
    return Call<v1::StatsResponse>(*request, &v1::MountService::Stub::Stats, Timeout(), Mounts(),
                                   StatsText);
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
    return Call<v1::ListBackupsResponse>(*request, &v1::CatalogService::Stub::ListBackups,
                                         Timeout(), v1::CatalogService::NewStub(Channel()),
                                         BackupsText);
  }

  int ListDiffs() {
    const absl::StatusOr<v1::ListDiffsRequest> request = ListDiffsRequestOf(arguments_, directory_);
    if (!request.ok()) return Usage(request.status());
    return Call<v1::ListDiffsResponse>(*request, &v1::DiffService::Stub::ListDiffs, Timeout(),
                                       Diffs(), ListDiffsText);
  }

  int CheckDiff() {
    const absl::StatusOr<v1::CheckDiffRequest> request = CheckDiffRequestOf(arguments_, directory_);
    if (!request.ok()) return Usage(request.status());
    // The call succeeds also where the diff is damaged; scripts need the exit code all the same.
    bool corrupt = false;
    const auto text = [](const v1::CheckDiffResponse& response) { return CheckDiffText(response); };
    const int code =
        Call<v1::CheckDiffResponse>(*request, &v1::DiffService::Stub::CheckDiff, Timeout(), Diffs(),
                                    text, [&](const v1::CheckDiffResponse& response) {
                                      corrupt = response.verdict() == v1::DIFF_VERDICT_CORRUPT;
                                    });
    if (!corrupt) return code;
    const CallError damaged{
        static_cast<int>(absl::StatusCode::kDataLoss),
        "the diff is damaged; keep a copy of it, and mount the backup with a new diff", ""};
    err_ << ErrorText(CommandTitle(arguments_.command), damaged, arguments_.address)
         << "reason: DIFF_CORRUPT\n";
    return ExitCodeOf(damaged.code);
  }

  int DeleteDiff() {
    const absl::StatusOr<v1::DeleteDiffRequest> request =
        DeleteDiffRequestOf(arguments_, directory_);
    if (!request.ok()) return Usage(request.status());
    return Call<v1::DeleteDiffResponse>(*request, &v1::DiffService::Stub::DeleteDiff, Timeout(),
                                        Diffs(), DeleteDiffText);
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
    out_ << (arguments_.json ? ToJson(response) : text(response)) << std::flush;
  }

  int Result(const grpc::Status& status) {
    const int code = static_cast<int>(status.error_code());
    if (!status.ok()) {
      err_ << ErrorText(CommandTitle(arguments_.command),
                        CallError{code, status.error_message(), status.error_details()},
                        arguments_.address);
    }
    return ExitCodeOf(code);
  }

  int Usage(const absl::Status& status) {
    err_ << "pbkfs: " << status.message() << "\nnext step: see pbkfs "
         << CommandTitle(arguments_.command) << " --help\n";
    return kExitUsage;
  }

  const std::shared_ptr<grpc::Channel>& Channel() const { return channel_; }
  std::unique_ptr<v1::MountService::Stub> Mounts() const {
    return v1::MountService::NewStub(Channel());
  }
  std::unique_ptr<v1::DiffService::Stub> Diffs() const {
    return v1::DiffService::NewStub(Channel());
  }
  static std::chrono::system_clock::time_point Timeout() {
    return std::chrono::system_clock::now() + kCallTimeout;
  }

  const Arguments& arguments_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::string& directory_;
  std::ostream& out_;
  std::ostream& err_;
};

}  // namespace

int RunClient(const std::vector<std::string>& words, const std::string& environment_address,
              const std::string& directory, std::ostream& out, std::ostream& err) {
  const absl::StatusOr<Arguments> arguments = ParseArguments(words, environment_address);
  if (!arguments.ok()) {
    err << "pbkfs: " << arguments.status().message() << "\nnext step: see pbkfs --help\n";
    return kExitUsage;
  }
  if (arguments->version) {
    out << "pbkfs " PBKFS_VERSION "\n";
    return kExitDone;
  }
  if (arguments->help) {
    out << HelpText(arguments->command);
    return kExitDone;
  }
  if (arguments->command.empty()) {
    err << HelpText("");
    return kExitUsage;
  }
  absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = MakeChannel(*arguments);
  if (!channel.ok()) {
    err << "pbkfs: " << channel.status().message() << "\nnext step: see pbkfs --help\n";
    return kExitUsage;
  }
  return Session(*arguments, *std::move(channel), directory, out, err).Run();
}

}  // namespace pbkfs::client
