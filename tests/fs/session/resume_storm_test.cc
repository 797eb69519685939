// Workers that are killed again and again at random points, under clients that check every result.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/fs/session/resume_client.h"
#include "tests/fs/session/resume_fixture.h"

namespace pbkfs {
namespace {

using std::chrono::microseconds;
using std::chrono::steady_clock;
using testsupport::ClientProgress;
using testsupport::NewShared;
using testsupport::ResumeClient;
using testsupport::ResumeTest;
using testsupport::Setting;

class ResumeStorm : public ResumeTest {
 protected:
  // Every name that stays is there once. "" or what went wrong.
  static std::string ListStaying(const std::string& path, size_t staying) {
    DIR* directory = opendir(path.c_str());
    if (directory == nullptr) return std::string("opendir: ") + strerror(errno);
    std::set<std::string> found;
    std::string wrong;
    errno = 0;
    while (const dirent* entry = readdir(directory)) {
      const std::string name = entry->d_name;
      if (name.rfind("stays", 0) == 0 && !found.insert(name).second) wrong = name + " twice";
    }
    if (errno != 0) wrong = std::string("readdir: ") + strerror(errno);
    closedir(directory);
    if (wrong.empty() && found.size() != staying) wrong = std::to_string(found.size()) + " names";
    return wrong;
  }

  void SetUp() override {
    ResumeTest::SetUp();
    seed_ = Setting("PBKFS_RESUME_SEED", std::random_device{}());
    random_.seed(seed_);
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    printf("seed %lu; replay: PBKFS_RESUME_SEED=%lu %s --gtest_filter=%s.%s\n", seed_, seed_,
           program_invocation_name, test->test_suite_name(), test->name());
    fflush(stdout);
    progress_ = NewShared<ClientProgress>();
  }

  // How many kills a storm has; more with PBKFS_RESUME_KILLS.
  static int Kills() { return static_cast<int>(Setting("PBKFS_RESUME_KILLS", 40)); }

  void StartModels(size_t count, bool with_signals = false) {
    clients_.resize(count);
    for (size_t number = 0; number < count; ++number) StartModel(number, with_signals);
  }
  void StartModel(size_t number, bool with_signals) {
    const uint64_t seed = random_();
    const std::string directory = At("client" + std::to_string(next_directory_++));
    // By the test, so that no client waits for another one.
    ASSERT_EQ(mkdir(directory.c_str(), 0700), 0);
    clients_[number] = StartClient([this, seed, directory, number, with_signals] {
      if (with_signals) StartSignals();
      ResumeClient model(directory, seed);
      return ExitCode(directory, model.Run(progress_, number));
    });
  }

  static int ExitCode(const std::string& who, const std::string& wrong) {
    if (!wrong.empty()) fprintf(stderr, "%s: %s\n", who.c_str(), wrong.c_str());
    return wrong.empty() ? 0 : 1;
  }

  // This process is interrupted all the time, and nothing that it calls is started again.
  static void StartSignals() {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    sigaction(SIGALRM, &action, nullptr);
    const itimerval often = {{0, 500}, {0, 500}};
    setitimer(ITIMER_REAL, &often, nullptr);
  }

  // Kills the worker after some progress, so that each worker has served something, and at a random
  // point of it.
  void KillAtARandomPoint() {
    const uint64_t goal = progress_->operations + 1 + random_() % 200;
    const auto deadline = steady_clock::now() + std::chrono::seconds(60);
    while (progress_->operations < goal && steady_clock::now() < deadline && !AClientEnded()) {
      std::this_thread::sleep_for(microseconds(50 + random_() % 200));
    }
    under_way_ += static_cast<uint64_t>(
        std::count(progress_->in_operation.begin(), progress_->in_operation.end(), true));
    Kill();
    ++kills_;
  }

  // Whether a client ended before it was told to; it has seen something wrong.
  bool AClientEnded() {
    return std::any_of(clients_.begin(), clients_.end(), [](pid_t client) {
      siginfo_t info = {};
      return waitid(P_PID, static_cast<id_t>(client), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
             info.si_pid == client;
    });
  }

  void TimedStart() {
    const auto start = steady_clock::now();
    StartWorker();
    milliseconds_.push_back(
        std::chrono::duration<double, std::milli>(steady_clock::now() - start).count());
  }

  // A storm of nothing but deaths of workers.
  void KillWorkers() {
    while (kills_ < Kills()) {
      KillAtARandomPoint();
      TimedStart();
    }
  }

  // Stops the clients, which all must have seen what they should, and unmounts.
  void Finish(size_t unreleased = 0) {
    progress_->stop = true;
    for (const pid_t client : clients_) {
      EXPECT_EQ(WaitForClient(client), 0) << "a client saw what must not happen";
    }
    ExpectHandles(unreleased);
    std::sort(milliseconds_.begin(), milliseconds_.end());
    printf("%d kills, %lu operations, %lu under way at a death, %lu requests sent again", kills_,
           progress_->operations.load(), under_way_, Resent());
    if (!milliseconds_.empty()) {
      printf("; start of a worker p50 %.1f ms, max %.1f ms",
             milliseconds_[milliseconds_.size() / 2], milliseconds_.back());
    }
    printf("\n");
    EXPECT_GT(Resent(), 0u) << "no request was in flight at any kill: the test proves nothing";
    Unmount();
  }

  uint64_t seed_ = 0;
  std::mt19937_64 random_;
  ClientProgress* progress_ = nullptr;
  std::vector<pid_t> clients_;
  int next_directory_ = 0;
  std::vector<double> milliseconds_;
  int kills_ = 0;
  uint64_t under_way_ = 0;  // Operations that clients had begun, over all kills.
};

TEST_F(ResumeStorm, EveryOperationIsDoneOnce) {
  StartModels(4);
  KillWorkers();
  Finish();
}

// The next worker is killed at any point of its start, before or after it asked for the requests,
// and the one after it too.
TEST_F(ResumeStorm, WorkersDieWhileTheyTakeOver) {
  StartModels(4);
  int during_takeover = 0;
  while (kills_ < Kills()) {
    KillAtARandomPoint();
    for (uint64_t again = random_() % 3; again > 0; --again) {
      BeginWorker();
      std::this_thread::sleep_for(microseconds(random_() % 12000));
      Kill();
      ++kills_;
      ++during_takeover;
    }
    TimedStart();
  }
  printf("%d of the kills during a takeover\n", during_takeover);
  Finish();
}

// PostgreSQL signals its processes all the time: no call is interrupted, whatever happens meanwhile
// to the worker, and listings stay whole.
TEST_F(ResumeStorm, SignalsAtClientsAndReadersOfDirectories) {
  StartModels(3, /*with_signals=*/true);
  // Names that stay, among others that come and go.
  const std::string directory = At("listed");
  ASSERT_EQ(mkdir(directory.c_str(), 0700), 0);
  constexpr int kStaying = 300;
  const auto make = [&directory](const std::string& name) {
    return UniqueFd(open((directory + "/" + name).c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600))
        .valid();
  };
  for (int i = 0; i < kStaying; ++i) ASSERT_TRUE(make("stays" + std::to_string(i)));
  clients_.push_back(StartClient([this, make, &directory] {
    StartSignals();
    std::string wrong;
    for (int i = 0; wrong.empty() && !progress_->stop; ++i) {
      const std::string name = "goes" + std::to_string(i);
      if (!make(name)) wrong = "create " + name;
      if (unlink((directory + "/" + name).c_str()) != 0) wrong = "unlink " + name;
    }
    return ExitCode(directory, wrong);
  }));
  for (int reader = 0; reader < 2; ++reader) {
    clients_.push_back(StartClient([this, &directory] {
      StartSignals();
      std::string wrong;
      while (wrong.empty() && !progress_->stop) wrong = ListStaying(directory, kStaying);
      return ExitCode(directory, wrong);
    }));
  }
  KillWorkers();
  Finish();
}

// Clients die in the gap: after the kernel was asked for their requests, and before these are read
// again. Then the kernel takes the requests back, and nobody tells of it.
TEST_F(ResumeStorm, ClientsDieInTheGap) {
  StartModels(6);
  size_t killed_clients = 0;
  while (kills_ < Kills()) {
    KillAtARandomPoint();
    AskForResend();
    const size_t first = random_() % clients_.size();
    const size_t victims[] = {first, (first + 1) % clients_.size()};
    for (const size_t victim : victims) {
      kill(clients_[victim], SIGKILL);
      ASSERT_EQ(WaitForClient(clients_[victim]), -1);
      if (progress_->in_operation[victim]) ++killed_clients;
    }
    TimedStart();
    for (const size_t victim : victims) StartModel(victim, /*with_signals=*/false);
  }
  printf("%zu clients were killed in an operation\n", killed_clients);
  EXPECT_GT(killed_clients, 0u);
  // The worker may have been killed just when it gave an answer that makes a handle; then nobody
  // knows whether the kernel has it, and it is kept.
  Finish(/*unreleased=*/killed_clients);
}

}  // namespace
}  // namespace pbkfs
