// The keeper: holds what must outlive the worker, and watches it.
//
// It owns the FUSE descriptors, the memory of the connections, the diffs' directories and locks,
// and the listening sockets; it mounts and unmounts; it starts the worker from an executable that
// it holds open, starts another one when the worker dies, and ends the connections when that does
// not help. It has one thread, serves one loop, and knows nothing of the FUSE protocol, of gRPC,
// and of what is in a diff. As process 1 of a container it also reaps and forwards signals.
#ifndef PBKFS_SERVICE_KEEPER_KEEPER_H_
#define PBKFS_SERVICE_KEEPER_KEEPER_H_

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/unique_fd.h"
#include "service/keeper/held_mount.h"
#include "service/keeper/protocol.h"
#include "service/keeper/unix_socket.h"

namespace pbkfs {

struct KeeperOptions {
  std::vector<std::string> arguments;  // Of this process, with the program's name.
  std::vector<ListenAddress> listen;
  int max_deaths = 100;  // Of workers, within a minute, before the connections end.
};

// The hidden flags of the worker and of the program that takes over.
inline constexpr char kWorkerFlag[] = "--worker-socket=";
inline constexpr char kHandoverFlag[] = "--keeper-state=";
inline constexpr char kCheckFlag[] = "--check-handover=";
// What a program must answer to kCheckFlag: that it reads what this one holds.
std::string HandoverVersions();

class Keeper {
 public:
  // `handover` is what another program's keeper left in this process; empty at a first start.
  static absl::StatusOr<std::unique_ptr<Keeper>> Create(const KeeperOptions& options,
                                                        const std::string& handover);

  // Serves until the worker has ended on a stop signal. The exit code of the process.
  int Run();

 private:
  using Clock = std::chrono::steady_clock;

  explicit Keeper(const KeeperOptions& options) : options_(options) {}

  struct Worker {
    pid_t pid = -1;
    UniqueFd socket;
    bool ready = false;
    bool killed = false;  // By us.
    Clock::time_point started;
    Clock::time_point stuck_since;  // Since when it can't be reaped; 0 = it can.
  };
  // A call that runs in a child, and who waits for it.
  struct Pending {
    KeeperMessage request;  // Its descriptors are those of the answer.
    bool answer = false;
    uint64_t worker_generation = 0;
  };

  // keeper.cc
  absl::Status SetUp();
  void HandleSignals();
  void HandleWorkerSocket();
  void Reap();
  void Tick();
  int PollTimeout() const;

  // worker_supervision.cc
  // start_at_, or later where children still work at what the last worker had not got.
  Clock::time_point NextStart() const;
  void StartWorker();
  void WorkerEnded(int status);
  void WorkerIsReady();
  void KillWorker(const char* why);
  bool GivesUp(bool own_crash);
  void DiscardUnfinished();
  // `force`: the worker's descriptors may still be open.
  void EndConnections(const std::string& why, uint32_t only_with_flag, bool force);
  void BeginUpgrade(const KeeperMessage* request);
  void CheckedNewProgram(bool good);
  void RefuseUpgrade(const std::string& why);
  void ReplaceSelf();

  // keeper_calls.cc
  void Handle(KeeperMessage request);
  void Answer(const KeeperMessage& request, int error);
  void AnswerHello(const KeeperMessage& request);
  void AnswerHeld(const KeeperMessage& request);
  void PassOnServing(const KeeperMessage& request);
  void AnswerLastUpgrade(const KeeperMessage& request);
  void StartMount(KeeperMessage request);
  void StartUnmount(KeeperMessage request);
  void ChildEnded(Pending pending, int exit_code);
  void EndConnection(HeldMount& mount, const std::string& why, bool force);
  HeldMount* Find(const std::string& id);
  // The umount(2) of `id` that a worker asked for which is gone; null where there is none.
  Pending* UnmountOfTheDead(const std::string& id);

  // keeper_state.cc
  std::string SaveState() const;
  absl::Status LoadState(const std::string& state);

  const KeeperOptions options_;
  std::string program_path_;  // Where a new program is looked for.
  UniqueFd program_;          // What workers are started from.
  UniqueFd old_program_;      // While an upgrade is not known to work.
  UniqueFd new_program_;      // While it is checked.
  int oom_score_ = 0;         // That the worker gets.
  UniqueFd signals_;
  std::vector<UniqueFd> listeners_;
  UniqueFd figures_;  // Memory that workers keep their counters in.
  Worker worker_;
  uint64_t generation_ = 0;  // Of the worker.
  uint64_t restarts_ = 0;    // Since the start, but the first.
  std::map<std::string, HeldMount> mounts_;
  std::map<pid_t, Pending> children_;
  pid_t check_ = -1;  // The process that checks the new program.
  Clock::time_point check_started_;
  bool upgrade_after_answer_ = false;
  Clock::time_point upgrade_at_;  // When the worker is killed for it; 0 = it was.
  std::string last_upgrade_;      // What became of it; empty = nobody asked for one.
  bool replace_self_ = false;
  std::deque<Clock::time_point> deaths_;
  std::deque<Clock::time_point> crashes_;
  int failed_starts_ = 0;
  Clock::time_point start_at_;  // When the next worker is started, if there is none and it can be.
  int stop_signal_ = 0;
  bool hangup_ = false;  // SIGHUP came while no worker was ready for it.
  bool ended_ = false;
  int exit_code_ = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_KEEPER_KEEPER_H_
