#include "service/log_repeats.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "spdlog/details/log_msg.h"

namespace pbkfs {
namespace {

constexpr absl::Duration kWindow = absl::Minutes(1);

// The text with each number as '#'. Two marks keep such a key apart from a text.
std::string WithoutNumbers(absl::string_view text) {
  std::string out = "##";
  for (const char c : text) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(c))) {
      out += c;
    } else if (out.back() != '#') {
      out += '#';
    }
  }
  return out;
}

}  // namespace

RepeatLimiter::Window* RepeatLimiter::WindowOf(std::string key, absl::Time now) {
  if (windows_.size() >= kMaxRememberedLines && windows_.count(key) == 0) key.clear();
  Window& window = windows_[key];
  if (window.end <= now) {
    // What it left out was taken before.
    window = Window{now + kWindow, 0, {}};
  }
  return &window;
}

bool RepeatLimiter::Admit(absl::string_view text, absl::Time now) {
  Window* same = WindowOf(std::string(text), now);
  Window* alike = WindowOf(WithoutNumbers(text), now);
  Window* full = nullptr;
  if (same->lines >= kSameLinesPerMinute) full = same;
  if (alike->lines >= kAlikeLinesPerMinute) full = alike;
  if (full == nullptr) {
    ++same->lines;
    ++alike->lines;
    return true;
  }
  if (full->left_out.lines++ == 0) full->left_out.text = std::string(text);
  next_report_ = std::min(next_report_, full->end);
  return false;
}

std::vector<RepeatLimiter::LeftOut> RepeatLimiter::TakeLeftOut(absl::Time now) {
  std::vector<LeftOut> left_out;
  next_report_ = absl::InfiniteFuture();
  for (auto it = windows_.begin(); it != windows_.end();) {
    Window& window = it->second;
    if (window.end > now) {
      if (window.left_out.lines > 0) next_report_ = std::min(next_report_, window.end);
      ++it;
      continue;
    }
    if (window.left_out.lines > 0) left_out.push_back(std::move(window.left_out));
    it = windows_.erase(it);
  }
  return left_out;
}

RepeatSink::RepeatSink(std::shared_ptr<spdlog::sinks::sink> next, std::string exempt)
    : next_(std::move(next)), exempt_(std::move(exempt)) {}

void RepeatSink::log(const spdlog::details::log_msg& message) {
  const absl::Time now = absl::FromChrono(message.time);
  const absl::string_view logger(message.logger_name.data(), message.logger_name.size());
  {
    MutexLock lock(&mutex_);
    // Any line will do to tell of a minute that is over: each mount logs one a minute.
    if (limiter_.next_report() <= now) Report(now);
    if (message.level >= spdlog::level::warn && logger != exempt_ &&
        !limiter_.Admit({message.payload.data(), message.payload.size()}, now)) {
      return;
    }
  }
  next_->log(message);
}

void RepeatSink::Report(absl::Time now) {
  for (const RepeatLimiter::LeftOut& left_out : limiter_.TakeLeftOut(now)) {
    const std::string text = absl::StrCat("left out ", left_out.lines,
                                          " lines of the last minute like: ", left_out.text);
    next_->log(spdlog::details::log_msg("pbkfsd", spdlog::level::warn, text));
  }
}

}  // namespace pbkfs
