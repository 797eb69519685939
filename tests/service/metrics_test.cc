// METRICS.md, the code and the API say the same of every metric. The sample that the metrics are
// made of has another value in each field, so that a metric that shows a wrong field is found.
#include "service/metrics/metrics.h"

#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/descriptor.pb.h"
#include "google/protobuf/message.h"
#include "gtest/gtest.h"

namespace pbkfs {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::string ReadSource(const std::string& path) {
  std::ifstream file(std::string(PBKFS_SOURCE_DIR) + "/" + path);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Row {
  std::string type;
  std::string labels;
  std::string meaning;
  std::vector<std::string> fields;
};

std::map<std::string, Row> DocumentedMetrics() {
  std::map<std::string, Row> rows;
  for (const absl::string_view line :
       absl::StrSplit(ReadSource("service/metrics/METRICS.md"), '\n')) {
    if (!absl::StartsWith(line, "| pbkfs_")) continue;
    std::vector<std::string> cells;
    for (const absl::string_view cell : absl::StrSplit(line, '|')) {
      cells.emplace_back(absl::StripAsciiWhitespace(cell));
    }
    EXPECT_EQ(cells.size(), 8u) << line;
    EXPECT_FALSE(cells[4].empty()) << "a unit is missing: " << line;
    const bool is_new = rows.try_emplace(cells[1], Row{cells[2], cells[3], cells[5],
                                                       absl::StrSplit(cells[6], ", ")})
                            .second;
    EXPECT_TRUE(is_new) << cells[1] << " is there twice";
  }
  return rows;
}

// Gives every field of `message` a value of its own.
void Fill(Message* message, uint64_t* next) {
  const auto* descriptor = message->GetDescriptor();
  const auto* reflection = message->GetReflection();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    const bool repeated = field->is_repeated();
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      Fill(repeated ? reflection->AddMessage(message, field)
                    : reflection->MutableMessage(message, field),
           next);
      continue;
    }
    const uint64_t value = ++*next * 1000;
    // Twice: a histogram has a bound less than it has buckets.
    const int count = repeated ? (field->name() == "bounds" ? 1 : 2) : 1;
    for (int n = 0; n < count; ++n) {
      switch (field->cpp_type()) {
        case FieldDescriptor::CPPTYPE_UINT64:
          repeated ? reflection->AddUInt64(message, field, value)
                   : reflection->SetUInt64(message, field, value);
          break;
        case FieldDescriptor::CPPTYPE_INT64:
          reflection->SetInt64(message, field, static_cast<int64_t>(value));
          break;
        case FieldDescriptor::CPPTYPE_DOUBLE:
          repeated ? reflection->AddDouble(message, field, static_cast<double>(value))
                   : reflection->SetDouble(message, field, static_cast<double>(value));
          break;
        case FieldDescriptor::CPPTYPE_STRING:
          reflection->SetString(message, field, "first/second");
          break;
        case FieldDescriptor::CPPTYPE_INT32:  // Nanoseconds of a duration.
        case FieldDescriptor::CPPTYPE_ENUM:
          break;
        default:
          ADD_FAILURE() << field->full_name() << ": a kind of field that this test does not know";
      }
    }
  }
}

// What a metric should say for a field: the sum over the map, the seconds, the count of a
// histogram, 1 for texts.
double ValueOf(const Message& message, const FieldDescriptor* field);

double ValueOfMessage(const Message& message) {
  const auto* descriptor = message.GetDescriptor();
  if (descriptor->full_name() == "google.protobuf.Duration") {
    return ValueOf(message, descriptor->FindFieldByName("seconds"));
  }
  if (descriptor->full_name() == "pbkfs.v1.DurationHistogram") {
    return ValueOf(message, descriptor->FindFieldByName("buckets"));
  }
  if (descriptor->options().map_entry()) return ValueOf(message, descriptor->map_value());
  ADD_FAILURE() << descriptor->full_name() << " has no one value";
  return 0;
}

double ValueOf(const Message& message, const FieldDescriptor* field) {
  const auto* reflection = message.GetReflection();
  const int count = field->is_repeated() ? reflection->FieldSize(message, field) : 1;
  double sum = 0;
  for (int i = 0; i < count; ++i) {
    const bool repeated = field->is_repeated();
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        sum += ValueOfMessage(repeated ? reflection->GetRepeatedMessage(message, field, i)
                                       : reflection->GetMessage(message, field));
        break;
      case FieldDescriptor::CPPTYPE_UINT64:
        sum += static_cast<double>(repeated ? reflection->GetRepeatedUInt64(message, field, i)
                                            : reflection->GetUInt64(message, field));
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        sum += static_cast<double>(reflection->GetInt64(message, field));
        break;
      default:
        return 1;
    }
  }
  return sum;
}

// Follows "io.fills" from a message; the value of what is there.
double ValueAt(const Message& start, const std::string& path) {
  const Message* message = &start;
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  for (size_t i = 0; i < names.size(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(names[i]);
    if (field == nullptr) {
      ADD_FAILURE() << message->GetDescriptor()->full_name() << " has no field " << names[i];
      return 0;
    }
    if (i + 1 == names.size()) return ValueOf(*message, field);
    message = &message->GetReflection()->GetMessage(*message, field);
  }
  return 0;
}

const char* TypeName(prometheus::MetricType type) {
  switch (type) {
    case prometheus::MetricType::Counter:
      return "counter";
    case prometheus::MetricType::Gauge:
      return "gauge";
    case prometheus::MetricType::Histogram:
      return "histogram";
    default:
      return "unknown";
  }
}

double ValueOf(const prometheus::MetricFamily& family) {
  double sum = 0;
  for (const prometheus::ClientMetric& metric : family.metric) {
    sum += metric.counter.value + metric.gauge.value +
           static_cast<double>(metric.histogram.sample_count);
  }
  return sum;
}

class MetricsTest : public testing::Test {
 protected:
  MetricsTest() {
    uint64_t next = 0;
    Fill(&stats_, &next);
    for (const prometheus::MetricFamily& family : MetricFamiliesOf(stats_)) {
      EXPECT_TRUE(families_.emplace(family.name, family).second)
          << family.name << " is there twice";
    }
  }
  v1::StatsResponse stats_;
  std::map<std::string, prometheus::MetricFamily> families_;
  const std::map<std::string, Row> rows_ = DocumentedMetrics();
};

TEST_F(MetricsTest, TheDocumentAndTheCodeHaveTheSameMetrics) {
  for (const auto& [name, family] : families_) {
    ASSERT_EQ(rows_.count(name), 1u) << "METRICS.md has no line for " << name;
    const Row& row = rows_.at(name);
    EXPECT_EQ(row.type, TypeName(family.type)) << name;
    EXPECT_EQ(row.meaning, family.help) << name;
    std::vector<std::string> labels;
    for (const auto& label : family.metric.at(0).label) labels.push_back(label.name);
    EXPECT_EQ(row.labels, absl::StrJoin(labels, ", ")) << name;
  }
  for (const auto& [name, row] : rows_) {
    EXPECT_EQ(families_.count(name), 1u)
        << "METRICS.md has a line for " << name << ", which the code does not make";
  }
}

TEST_F(MetricsTest, EachMetricShowsTheFieldThatTheDocumentNames) {
  for (const auto& [name, row] : rows_) {
    if (families_.count(name) == 0) continue;
    const bool of_mount = absl::StartsWith(row.labels, "mount");
    const Message& start = of_mount ? static_cast<const Message&>(stats_.mounts(0))
                                    : static_cast<const Message&>(stats_.daemon());
    double expected = 0;
    bool text = false;
    for (const std::string& field : row.fields) {
      const double value = ValueAt(start, field);
      text |= value == 1;
      expected += value;
    }
    EXPECT_EQ(ValueOf(families_.at(name)), text ? 1 : expected) << name;
  }
}

TEST_F(MetricsTest, NamesFollowTheConventions) {
  for (const auto& [name, family] : families_) {
    EXPECT_TRUE(absl::StartsWith(name, "pbkfs_")) << name;
    EXPECT_EQ(absl::EndsWith(name, "_total"), family.type == prometheus::MetricType::Counter)
        << name;
    EXPECT_FALSE(family.help.empty()) << name;
  }
}

TEST_F(MetricsTest, CommentsOfTheApiNameMetricsThatExist) {
  const std::string text = ReadSource("proto/pbkfs/v1/mount.proto");
  std::set<std::string> named;
  const std::regex pattern("pbkfs_[a-z_]+");
  for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it) {
    named.insert(it->str());
  }
  for (const std::string& name : named) {
    EXPECT_EQ(rows_.count(name), 1u)
        << "mount.proto names " << name << ", which METRICS.md has not";
  }
  for (const auto& [name, row] : rows_) {
    EXPECT_EQ(named.count(name), 1u) << "no field of mount.proto says that it is " << name;
  }
}

TEST_F(MetricsTest, AMountWithoutASessionHasOnlyWhatItIs) {
  v1::StatsResponse stats;
  stats.add_mounts()->set_mount_id("gone");
  for (const prometheus::MetricFamily& family : MetricFamiliesOf(stats)) {
    for (const prometheus::ClientMetric& metric : family.metric) {
      for (const auto& label : metric.label) {
        EXPECT_TRUE(label.name != "mount" || family.name == "pbkfs_mount_info") << family.name;
      }
    }
  }
}

}  // namespace
}  // namespace pbkfs
