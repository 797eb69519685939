// Holds calls of a FaultIo until a test lets them go on.
#ifndef PBKFS_TESTS_SUPPORT_GATE_H_
#define PBKFS_TESTS_SUPPORT_GATE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fs/base/mutex.h"
#include "tests/support/fault_io.h"

namespace pbkfs::testsupport {

// Holds each call of one operation on one file. Opens in the destructor, so that a test that fails
// leaves nobody waiting: declare it after the futures of those who wait. Thread-safe.
class Gate {
 public:
  Gate(std::string operation, std::string name)
      : operation_(std::move(operation)), name_(std::move(name)) {}
  ~Gate() { Open(); }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  // Waits until a call is held.
  void AwaitCall() {
    MutexLock lock(&state_->mutex);
    while (state_->calls == 0) state_->changed.Wait(&state_->mutex);
  }
  void Open() {
    MutexLock lock(&state_->mutex);
    state_->open = true;
    state_->changed.SignalAll();
  }
  bool IsOpen() const {
    MutexLock lock(&state_->mutex);
    return state_->open;
  }

  // A hook with which all of `gates` hold their calls.
  static FaultIo::Hook HookOf(const std::vector<const Gate*>& gates) {
    std::vector<Held> held;
    for (const Gate* gate : gates) held.push_back({gate->operation_, gate->name_, gate->state_});
    return [held](const std::string& operation, const std::string& name) {
      for (const Held& one : held) {
        if (one.operation != operation || one.name != name) continue;
        MutexLock lock(&one.state->mutex);
        ++one.state->calls;
        one.state->changed.SignalAll();
        while (!one.state->open) one.state->changed.Wait(&one.state->mutex);
      }
      return absl::OkStatus();
    };
  }

 private:
  // Shared with the hook, which may be called when the gate is gone.
  struct State {
    Mutex mutex;
    CondVar changed;
    int calls ABSL_GUARDED_BY(mutex) = 0;
    bool open ABSL_GUARDED_BY(mutex) = false;
  };
  struct Held {
    std::string operation;
    std::string name;
    std::shared_ptr<State> state;
  };

  const std::string operation_;
  const std::string name_;
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_GATE_H_
