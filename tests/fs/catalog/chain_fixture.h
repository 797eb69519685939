// What tests of chains share: a catalog in a temporary directory, and edits of its control files.
#ifndef PBKFS_TESTS_FS_CATALOG_CHAIN_FIXTURE_H_
#define PBKFS_TESTS_FS_CATALOG_CHAIN_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "fs/catalog/chain.h"
#include "tests/support/catalog_writer.h"
#include "tests/support/files.h"
#include "tests/support/synthetic_cluster.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {

namespace ts = testsupport;

class ChainTest : public testing::Test {
 protected:
  std::string AddBackup(ts::BackupMode mode, ts::BackupOptions options = {},
                        absl::string_view status = "OK") {
    auto backup = writer_.Begin(mode, std::move(options));
    ts::ClusterOptions cluster;
    cluster.wal = false;
    ts::AddMinimalCluster(*backup, cluster);
    return backup->Finish(std::string_view(status.data(), status.size()));
  }

  std::shared_ptr<const Instance> OpenInstance() {
    const auto catalog = Catalog::Open(store_);
    EXPECT_TRUE(catalog.ok()) << catalog.status();
    const auto instance = (*catalog)->OpenInstance("main");
    EXPECT_TRUE(instance.ok()) << instance.status();
    return *instance;
  }

  absl::StatusOr<std::shared_ptr<const Chain>> Resolve(absl::string_view id, bool force = false) {
    return ResolveChain(OpenInstance(), id, force);
  }

  std::string Control(const std::string& id) {
    return absl::StrCat(writer_.BackupDirectory(id), "/backup.control");
  }

  // Replaces a part of a file by rename, as pg_probackup does.
  void Edit(const std::string& path, absl::string_view from, absl::string_view to) {
    const std::string old_text = ts::ReadWholeFile(path);
    const std::string new_text = absl::StrReplaceAll(old_text, {{from, to}});
    ASSERT_NE(old_text, new_text) << from;
    ts::ReplaceFile(path, new_text, 0600);
  }

  ts::TemporaryDirectory directory_;
  const std::string store_ = directory_.path() + "/catalog";
  ts::CatalogWriter writer_{store_, "main"};
};

}  // namespace pbkfs

#endif  // PBKFS_TESTS_FS_CATALOG_CHAIN_FIXTURE_H_
