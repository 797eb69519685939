// WatchStats over a real connection, with figures that the test makes.
#include "service/stats_streams.h"

#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "fs/base/status.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"
#include "pbkfs/v1/mount.grpc.pb.h"
#include "service/metrics/limits.h"

namespace pbkfs {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

class Service final
    : public v1::MountService::WithCallbackMethod_WatchStats<v1::MountService::Service> {
 public:
  explicit Service(StatsStreams& streams) : streams_(streams) {}
  grpc::ServerWriteReactor<v1::StatsResponse>* WatchStats(
      grpc::CallbackServerContext*, const v1::WatchStatsRequest* request) override {
    return streams_.Watch(*request, [](v1::StatsResponse*) { return absl::OkStatus(); });
  }

 private:
  StatsStreams& streams_;
};

class StatsStreamsTest : public testing::Test {
 protected:
  StatsStreamsTest()
      : socket_(absl::StrCat("unix:", testing::TempDir(), "/watch-", getpid(), ".sock")),
        streams_({[this](const std::string& id) { return Sample(id); },
                  [this](const std::string&) { return there_.load(); }},
                 figures_),
        service_(streams_) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(socket_, grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }
  ~StatsStreamsTest() override {
    streams_.Stop();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  absl::StatusOr<v1::StatsResponse> Sample(const std::string& id) {
    const int number = ++samples_;
    if (id == "stalled") ++stalled_samples_;
    if (!id.empty() && !there_) {
      return ReasonError(absl::StatusCode::kNotFound, reason::kMountNotFound, "none");
    }
    v1::StatsResponse stats;
    stats.add_mounts()->set_mount_id(id);
    stats.mutable_mounts(0)->mutable_create_time()->set_seconds(made_);
    stats.mutable_daemon()->set_worker_restarts(static_cast<uint64_t>(number));
    stats.mutable_daemon()->set_version(std::string(message_bytes_, 'x'));
    return stats;
  }

  struct Call {
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<v1::MountService::Stub> stub;
    std::unique_ptr<grpc::ClientContext> context;
    std::unique_ptr<grpc::ClientReader<v1::StatsResponse>> reader;
    v1::StatsResponse answer;
    bool Read() { return reader->Read(&answer); }
    grpc::Status End() {
      while (Read()) {
      }
      return reader->Finish();
    }
  };
  Call Watch(const std::string& id, absl::Duration interval = kMinWatchInterval) const {
    Call call;
    // Windows that are measured instead of given open after seconds sometimes.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    call.channel =
        grpc::CreateCustomChannel(socket_, grpc::InsecureChannelCredentials(), arguments);
    call.stub = v1::MountService::NewStub(call.channel);
    call.context = std::make_unique<grpc::ClientContext>();
    call.context->set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
    v1::WatchStatsRequest request;
    request.set_mount_id(id);
    request.mutable_interval()->set_seconds(absl::ToInt64Seconds(interval));
    request.mutable_interval()->set_nanos(
        static_cast<int32_t>(absl::ToInt64Nanoseconds(interval) % 1000000000));
    call.reader = call.stub->WatchStats(call.context.get(), request);
    return call;
  }

  const std::string socket_;
  std::atomic<bool> there_{true};
  std::atomic<int> made_{1};
  std::atomic<int> samples_{0};
  std::atomic<int> stalled_samples_{0};
  std::atomic<size_t> message_bytes_{10};
  RpcFigures figures_;
  StatsStreams streams_;
  Service service_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(StatsStreamsTest, SendsSampleAfterSampleUntilTheCallerCancels) {
  for (const char* id : {"m", ""}) {
    Call call = Watch(id);
    uint64_t last = 0;
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(call.Read()) << "'" << id << "'";
      EXPECT_GT(call.answer.daemon().worker_restarts(), last);
      last = call.answer.daemon().worker_restarts();
    }
    call.context->TryCancel();
    EXPECT_EQ(call.End().error_code(), grpc::StatusCode::CANCELLED);
  }
}

TEST_F(StatsStreamsTest, TheFirstAnswerDoesNotWaitForTheInterval) {
  Call call = Watch("m", kMaxWatchInterval);
  EXPECT_TRUE(call.Read());
  call.context->TryCancel();
  call.End();
}

TEST_F(StatsStreamsTest, EndsWithNotFoundWhenTheMountGoesWhateverTheIntervalIs) {
  Call slow = Watch("m", kMaxWatchInterval);
  Call fast = Watch("m");
  ASSERT_TRUE(slow.Read());
  ASSERT_TRUE(fast.Read());
  there_ = false;
  EXPECT_EQ(slow.End().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(fast.End().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Watch("m").End().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(StatsStreamsTest, AMountThatIsMadeAgainUnderTheSameNameIsAnother) {
  Call call = Watch("m");
  ASSERT_TRUE(call.Read());
  made_ = 2;
  EXPECT_EQ(call.End().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(StatsStreamsTest, IntervalsOutOfBoundsAreRefused) {
  for (const absl::Duration interval :
       {absl::ZeroDuration(), kMinWatchInterval - absl::Nanoseconds(1), absl::Seconds(-1),
        kMaxWatchInterval + absl::Seconds(1)}) {
    EXPECT_EQ(Watch("m", interval).End().error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << interval;
  }
}

TEST_F(StatsStreamsTest, AStalledReaderCostsOneMessageAndHoldsNobodyUp) {
  message_bytes_ = 1 << 20;  // More than the windows and buffers on the way take.
  Call stalled = Watch("stalled");
  Call other = Watch("other");
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(other.Read());
  // What fills the windows of the connection, and one that waits for them.
  EXPECT_LE(stalled_samples_, 6);
  const int last = samples_;
  for (int i = 0;
       i < 10 && stalled.answer.daemon().worker_restarts() <= static_cast<uint64_t>(last); ++i) {
    ASSERT_TRUE(stalled.Read());
  }
  EXPECT_GT(stalled.answer.daemon().worker_restarts(), static_cast<uint64_t>(last))
      << "new samples are made again";
  // It ends at once when it is cancelled, also in the middle of a message.
  stalled.context->TryCancel();
  EXPECT_EQ(stalled.End().error_code(), grpc::StatusCode::CANCELLED);
  other.context->TryCancel();
  other.End();
}

TEST_F(StatsStreamsTest, ThereIsALimit) {
  std::vector<Call> calls;
  for (size_t i = 0; i < kMaxWatchStreams; ++i) {
    calls.push_back(Watch("", kMaxWatchInterval));
    ASSERT_TRUE(calls.back().Read());
  }
  const grpc::Status refused = Watch("").End();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(refused.error_details().find("STREAM_LIMIT"), std::string::npos);
  // A place that is given up can be taken.
  calls.back().context->TryCancel();
  calls.back().End();
  calls.pop_back();
  grpc::Status status;
  const absl::Time deadline = absl::Now() + kPatience;
  while (absl::Now() < deadline) {
    Call call = Watch("", kMaxWatchInterval);
    const bool served = call.Read();
    call.context->TryCancel();
    status = call.End();
    if (served) break;
  }
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED) << status.error_message();
  // A stop ends them all.
  streams_.Stop();
  for (Call& call : calls) EXPECT_EQ(call.End().error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace pbkfs
