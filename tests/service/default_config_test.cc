#include "service/default_config.h"

#include "gtest/gtest.h"
#include "service/server_config.h"

namespace pbkfs {
namespace {

PgControl Control() {
  PgControl control;
  control.wal_level = WalLevel::kLogical;
  control.max_connections = 321;
  control.max_worker_processes = 17;
  control.max_wal_senders = 13;
  control.max_prepared_transactions = 7;
  control.max_locks_per_transaction = 200;
  return control;
}

TEST(DefaultConfig, TheMainFileHasWhatRecoveryComparesAndNoTcp) {
  const auto files = MakeDefaultFiles({"postgresql.conf"}, Control(), "postgres");
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0].path, "postgresql.conf");
  std::map<std::string, std::string> settings;
  for (const ConfigLine& line : ParseConfigFile(files[0].content)) {
    settings[line.name] = line.value;
  }
  const std::map<std::string, std::string> expected = {
      {"listen_addresses", ""},           {"max_connections", "321"},
      {"max_worker_processes", "17"},     {"max_wal_senders", "13"},
      {"max_prepared_transactions", "7"}, {"max_locks_per_transaction", "200"},
      {"wal_level", "logical"},
  };
  EXPECT_EQ(settings, expected);
}

TEST(DefaultConfig, NobodyGetsInWithoutTheKernelsWord) {
  const auto files = MakeDefaultFiles({"pg_hba.conf", "pg_ident.conf"}, Control(), "dba");
  ASSERT_EQ(files.size(), 2u);
  EXPECT_NE(files[0].content.find("\nlocal all all peer map=pbkfs\n"), std::string::npos);
  EXPECT_EQ(files[0].content.find("trust"), std::string::npos);
  EXPECT_EQ(files[0].content.find("\nhost"), std::string::npos);
  EXPECT_NE(files[1].content.find("\npbkfs \"dba\" postgres\n"), std::string::npos);
}

}  // namespace
}  // namespace pbkfs
