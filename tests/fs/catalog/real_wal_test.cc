// The WAL and the pg_control that a PostgreSQL server writes. Skipped where there is none.
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fs/catalog/pg_control.h"
#include "fs/catalog/wal_tablespaces.h"
#include "gtest/gtest.h"
#include "tests/support/must_run.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

constexpr char kBinaries[] = "/usr/lib/postgresql/15/bin";

class FileWal final : public WalSource {
 public:
  FileWal(std::string directory, uint32_t segment_bytes)
      : directory_(std::move(directory)), segment_bytes_(segment_bytes) {}
  absl::Status ReadSegment(uint32_t timeline, uint64_t number, uint32_t offset,
                           absl::Span<uint8_t> out) override {
    std::ifstream file(directory_ + "/" + WalSegmentName(timeline, number, segment_bytes_),
                       std::ios::binary);
    if (!file) return absl::NotFoundError("no such segment");
    file.seekg(offset);
    file.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(out.size()));
    if (!file) return absl::DataLossError("short segment");
    return absl::OkStatus();
  }

 private:
  const std::string directory_;
  const uint32_t segment_bytes_;
};

class RealWal : public testing::Test {
 protected:
  void SetUp() override {
    const struct passwd* account = getpwnam("postgres");
    if (geteuid() != 0 || account == nullptr ||
        access(absl::StrCat(kBinaries, "/initdb").c_str(), X_OK) != 0) {
      constexpr char kCause[] = "needs root, the account postgres and PostgreSQL 15";
      if (testsupport::MustRunAllTests()) FAIL() << kCause;
      GTEST_SKIP() << kCause;
    }
    root_ = directory_.path();
    ASSERT_EQ(chmod(root_.c_str(), 0755), 0);
    for (const char* name : {"/data", "/sockets", "/tablespace"}) {
      ASSERT_EQ(mkdir((root_ + name).c_str(), 0700), 0);
      ASSERT_EQ(chown((root_ + name).c_str(), account->pw_uid, account->pw_gid), 0);
    }
    Run("initdb", absl::StrCat("-D ", root_, "/data -N -A trust --wal-segsize=1"));
    Run("pg_ctl", absl::StrCat("-D ", root_, "/data -l ", root_, "/data/log -w -o \"-c ",
                               "listen_addresses='' -k ", root_, "/sockets -c autovacuum=off",
                               " -c max_connections=37 -c max_worker_processes=11\" start"));
    running_ = !HasFailure();
  }
  void TearDown() override {
    if (running_) Run("pg_ctl", absl::StrCat("-D ", root_, "/data -m immediate -w stop"));
  }

  // Runs a program as postgres and returns what it prints.
  std::string Run(const std::string& program, const std::string& arguments) {
    const std::string command = absl::StrCat("cd / && runuser -u postgres -- ", kBinaries, "/",
                                             program, " ", arguments, " 2>&1");
    FILE* pipe = popen(command.c_str(), "r");
    std::string output;
    std::array<char, 4096> buffer;
    while (pipe != nullptr && fgets(buffer.data(), buffer.size(), pipe) != nullptr) {
      output += buffer.data();
    }
    const int status = pipe == nullptr ? -1 : pclose(pipe);
    EXPECT_EQ(status, 0) << command << "\n" << output;
    return std::string(absl::StripAsciiWhitespace(output));
  }
  std::string Sql(const std::string& text) {
    return Run("psql",
               absl::StrCat("-X -q -A -t -h ", root_, "/sockets -d postgres -c \"", text, "\""));
  }
  Lsn CurrentLsn() {
    const std::string text = Sql("SELECT pg_current_wal_insert_lsn()");
    const std::vector<std::string> halves = absl::StrSplit(text, '/');
    if (halves.size() != 2) return 0;
    return std::stoull(halves[0], nullptr, 16) << 32 | std::stoull(halves[1], nullptr, 16);
  }

  testsupport::TemporaryDirectory directory_;
  std::string root_;
  bool running_ = false;
};

TEST_F(RealWal, ATablespaceIsFoundAmongWhatAServerWrites) {
  Sql("CHECKPOINT");
  const std::string redo = Sql("SELECT redo_lsn FROM pg_control_checkpoint()");
  const std::vector<std::string> halves = absl::StrSplit(redo, '/');
  ASSERT_EQ(halves.size(), 2u);
  // Full page images, records over pages and segments, a switch.
  Sql("CREATE TABLE t AS SELECT i, repeat(md5(i::text), 30) s FROM generate_series(1, 4000) i");
  Sql("CREATE INDEX ON t (s); UPDATE t SET i = -i; SELECT pg_switch_wal()");
  const Lsn before = CurrentLsn();
  Sql(absl::StrCat("CREATE TABLESPACE far LOCATION '", root_, "/tablespace'"));
  const std::string oid = Sql("SELECT oid FROM pg_tablespace WHERE spcname = 'far'");
  Sql("INSERT INTO t SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 4000) i");
  const Lsn stop = CurrentLsn();

  std::ifstream file(root_ + "/data/global/pg_control", std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  const absl::StatusOr<PgControl> control = ParsePgControl(bytes.str());
  ASSERT_TRUE(control.ok()) << control.status();
  EXPECT_EQ(control->wal_segment_bytes, 1u << 20);
  EXPECT_EQ(control->max_connections, 37);
  EXPECT_EQ(control->max_worker_processes, 11);
  EXPECT_EQ(control->max_wal_senders, 10);
  EXPECT_EQ(control->max_prepared_transactions, 0);
  EXPECT_EQ(control->max_locks_per_transaction, 64);
  EXPECT_EQ(control->wal_level, WalLevel::kReplica);
  EXPECT_EQ(absl::StrCat(control->system_identifier),
            Sql("SELECT system_identifier FROM pg_control_system()"));

  WalStart start;
  start.begin = std::stoull(halves[0], nullptr, 16) << 32 | std::stoull(halves[1], nullptr, 16);
  start.segment_bytes = control->wal_segment_bytes;
  start.server_major = 15;
  start.system_identifier = control->system_identifier;
  FileWal wal(root_ + "/data/pg_wal", start.segment_bytes);
  const absl::StatusOr<TablespaceScan> scan = ScanForTablespaces(wal, start, stop);
  ASSERT_TRUE(scan.ok()) << scan.status();
  EXPECT_TRUE(scan->problem.ok()) << scan->problem;
  ASSERT_EQ(scan->creations.size(), 1u);
  EXPECT_EQ(scan->creations[0].path, root_ + "/tablespace");
  EXPECT_EQ(absl::StrCat(scan->creations[0].oid), oid);
  EXPECT_GE(scan->creations[0].lsn, before);
  EXPECT_LT(scan->creations[0].lsn, stop);
}

}  // namespace
}  // namespace pbkfs
