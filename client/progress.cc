#include "client/progress.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/table.h"
#include "client/terminal.h"

namespace pbkfs::client {
namespace {

constexpr std::chrono::milliseconds kRedraw{250};

// The longest beginning of `text` that fits into `columns`, cut between characters.
std::string Fit(std::string text, size_t columns) {
  while (DisplayWidth(text) > columns) {
    while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xc0) == 0x80) {
      text.pop_back();
    }
    if (!text.empty()) text.pop_back();
  }
  return text;
}

}  // namespace

Progress::Progress(std::ostream& err, bool live, std::string what, std::chrono::milliseconds quiet)
    : err_(err), live_(live), quiet_(quiet), what_(std::move(what)), thread_([this] { Run(); }) {}

Progress::~Progress() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    done_ = true;
  }
  changed_.notify_one();
  thread_.join();
  if (live_ && !shown_.empty()) err_ << "\r\033[K" << std::flush;
}

void Progress::Say(const std::string& what) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    what_ = what;
  }
  changed_.notify_one();
}

void Progress::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (changed_.wait_for(lock, quiet_, [this] { return done_; })) return;
  while (!done_) {
    Show();
    if (live_) {
      changed_.wait_for(lock, kRedraw, [this] { return done_; });
    } else {
      changed_.wait(lock, [this] { return done_ || what_ != shown_; });
    }
  }
}

void Progress::Show() {
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - start_);
  if (live_) {
    const std::string line = absl::StrCat(seconds.count(), " s  ", Printable(what_));
    const int columns = ErrorColumns();
    err_ << "\r\033[K" << Fit(line, columns > 1 ? static_cast<size_t>(columns) - 1 : 1)
         << std::flush;
  } else {
    err_ << absl::StrCat("pbkfs: ", Printable(what_), "\n") << std::flush;
  }
  shown_ = what_;
}

}  // namespace pbkfs::client
