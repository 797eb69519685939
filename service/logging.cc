#include "service/logging.h"

#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fs/base/status.h"
#include "service/log_repeats.h"
#include "service/recent_log.h"
#include "service/utf8.h"
#include "spdlog/formatter.h"
#include "spdlog/sinks/sink.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

// Lines of this logger are bodies of JSON objects already.
constexpr char kEventLogger[] = "event";

constexpr std::pair<absl::string_view, spdlog::level::level_enum> kLevels[] = {
    {"trace", spdlog::level::trace}, {"debug", spdlog::level::debug},
    {"info", spdlog::level::info},   {"warn", spdlog::level::warn},
    {"error", spdlog::level::err},   {"warning", spdlog::level::warn},
};

LogFormat g_format = LogFormat::kText;

// Appends `text` with control characters as \u00XX: a name may hold any byte, and a line of the log
// is one line on every terminal.
void AppendOneLine(absl::string_view text, std::string* out) {
  const std::string utf8 = ToUtf8(text);
  for (size_t i = 0; i < utf8.size(); ++i) {
    auto byte = static_cast<unsigned char>(utf8[i]);
    // U+0080 to U+009F have two bytes.
    const bool high = byte == 0xc2 && static_cast<unsigned char>(utf8[i + 1]) < 0xa0;
    if (high) byte = static_cast<unsigned char>(utf8[++i]);
    if (high || byte < 0x20 || byte == 0x7f) {
      absl::StrAppendFormat(out, "\\u%04x", byte);
    } else {
      *out += utf8[i];
    }
  }
}

class TextFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& msg, spdlog::memory_buf_t& dest) override {
    const auto level = spdlog::level::to_string_view(msg.level);
    std::string line =
        absl::StrCat(absl::FormatTime("%Y-%m-%dT%H:%M:%E3S%Ez", absl::FromChrono(msg.time),
                                      absl::LocalTimeZone()),
                     " ", absl::string_view(level.data(), level.size()), " ");
    AppendOneLine({msg.payload.data(), msg.payload.size()}, &line);
    line += '\n';
    dest.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<TextFormatter>();
  }
};

class JsonFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& msg, spdlog::memory_buf_t& dest) override {
    const absl::string_view payload(msg.payload.data(), msg.payload.size());
    const auto level = spdlog::level::to_string_view(msg.level);
    std::string line = absl::StrCat(
        R"({"time":")",
        absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::FromChrono(msg.time), absl::UTCTimeZone()),
        R"(","level":")", absl::string_view(level.data(), level.size()), R"(",)");
    if (absl::string_view(msg.logger_name.data(), msg.logger_name.size()) == kEventLogger) {
      absl::StrAppend(&line, payload);
    } else {
      absl::StrAppend(&line, R"("message":)", JsonQuote(payload));
    }
    line += "}\n";
    dest.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>();
  }
};

class RecentSink : public spdlog::sinks::sink {
 public:
  void log(const spdlog::details::log_msg& msg) override {
    const auto level = spdlog::level::to_string_view(msg.level);
    ProcessRecentLog().Add(absl::FromChrono(msg.time), {level.data(), level.size()},
                           {msg.payload.data(), msg.payload.size()});
  }
  void flush() override {}
  void set_pattern(const std::string&) override {}
  void set_formatter(std::unique_ptr<spdlog::formatter>) override {}
};

absl::StatusOr<spdlog::level::level_enum> ParseLevel(absl::string_view level) {
  for (const auto& [name, value] : kLevels) {
    if (name == level) return value;
  }
  return WithField(
      ReasonError(absl::StatusCode::kInvalidArgument, reason::kInvalidField,
                  absl::StrCat("log level '", level, "': use trace, debug, info, warn or error")),
      "level");
}

bool NeedsQuotes(absl::string_view text) {
  if (text.empty()) return true;
  for (const char c : text) {
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f) return true;
  }
  return false;
}

}  // namespace

std::string JsonQuote(absl::string_view text) {
  std::string out = "\"";
  AppendOneLine(absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}}), &out);
  out += '"';
  return out;
}

absl::Status CheckLogLevel(absl::string_view level) { return ParseLevel(level).status(); }

absl::Status SetLogLevel(absl::string_view level) {
  PBKFS_ASSIGN_OR_RETURN(const spdlog::level::level_enum parsed, ParseLevel(level));
  spdlog::default_logger()->set_level(parsed);
  if (const auto logger = spdlog::get(kEventLogger)) logger->set_level(parsed);
  return absl::OkStatus();
}

std::string LogLevel() {
  const spdlog::level::level_enum level = spdlog::default_logger()->level();
  for (const auto& [name, value] : kLevels) {
    if (value == level) return std::string(name);
  }
  return "off";
}

absl::Status SetUpLogging(absl::string_view level, LogFormat format) {
  PBKFS_ASSIGN_OR_RETURN(const spdlog::level::level_enum parsed, ParseLevel(level));
  g_format = format;
  auto sink =
      std::make_shared<RepeatSink>(std::make_shared<spdlog::sinks::stderr_sink_mt>(), kEventLogger);
  if (format == LogFormat::kJson) {
    sink->set_formatter(std::make_unique<JsonFormatter>());
  } else {
    sink->set_formatter(std::make_unique<TextFormatter>());
  }
  auto recent = std::make_shared<RecentSink>();
  recent->set_level(spdlog::level::warn);
  auto main_logger =
      std::make_shared<spdlog::logger>("pbkfsd", spdlog::sinks_init_list{sink, recent});
  // An event keeps by itself what may be kept of it.
  auto event_logger = std::make_shared<spdlog::logger>(kEventLogger, sink);
  for (const auto& logger : {main_logger, event_logger}) {
    logger->set_level(parsed);
    logger->flush_on(spdlog::level::trace);
  }
  spdlog::set_default_logger(main_logger);
  spdlog::drop(kEventLogger);
  spdlog::register_logger(event_logger);
  return absl::OkStatus();
}

LogEvent::LogEvent(spdlog::level::level_enum level, absl::string_view name)
    : level_(level), kept_(level >= spdlog::level::warn) {
  line_ = g_format == LogFormat::kJson ? absl::StrCat(R"("event":)", JsonQuote(name))
                                       : std::string(name);
  if (kept_) kept_line_ = std::string(name);
}

LogEvent::~LogEvent() {
  auto logger = spdlog::get(kEventLogger);
  if (logger == nullptr) logger = spdlog::default_logger();
  logger->log(level_, spdlog::string_view_t(line_.data(), line_.size()));
  if (!kept_) return;
  const auto level = spdlog::level::to_string_view(level_);
  ProcessRecentLog().Add(absl::Now(), {level.data(), level.size()}, kept_line_);
}

void LogEvent::Raw(absl::string_view name, absl::string_view text, absl::string_view json,
                   bool keep) {
  if (g_format == LogFormat::kJson) {
    absl::StrAppend(&line_, ",", JsonQuote(name), ":", json);
  } else {
    absl::StrAppend(&line_, " ", name, "=", text);
  }
  if (kept_ && keep) absl::StrAppend(&kept_line_, " ", name, "=", text);
}

LogEvent& LogEvent::Field(absl::string_view name, absl::string_view value) {
  const std::string json = JsonQuote(value);
  Raw(name, NeedsQuotes(value) ? absl::string_view(json) : value, json);
  return *this;
}

LogEvent& LogEvent::PrivateField(absl::string_view name, absl::string_view value) {
  const std::string json = JsonQuote(value);
  Raw(name, NeedsQuotes(value) ? absl::string_view(json) : value, json, /*keep=*/false);
  return *this;
}

LogEvent& LogEvent::Field(absl::string_view name, uint64_t value) {
  const std::string text = absl::StrCat(value);
  Raw(name, text, text);
  return *this;
}

LogEvent& LogEvent::Field(absl::string_view name, double value) {
  const std::string text = absl::StrFormat("%.6g", value);
  Raw(name, text, text);
  return *this;
}

}  // namespace pbkfs
