// Catalogs, backups and chains as directories, written by the tests' own catalog writer.
#include "fs/catalog/chain.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"
#include "tests/fs/catalog/chain_fixture.h"
#include "tests/support/catalog_writer.h"
#include "tests/support/files.h"
#include "tests/support/synthetic_cluster.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

TEST_F(ChainTest, TheChainRunsFromTheFullToTheWantedBackup) {
  const std::string full = AddBackup(ts::BackupMode::kFull);
  const std::string delta = AddBackup(ts::BackupMode::kDelta);
  const std::string page = AddBackup(ts::BackupMode::kPage);
  const auto chain = Resolve(page);
  ASSERT_TRUE(chain.ok()) << chain.status();
  ASSERT_EQ((*chain)->members.size(), 3u);
  EXPECT_EQ((*chain)->members[0]->id, full);
  EXPECT_EQ((*chain)->members[1]->id, delta);
  EXPECT_EQ((*chain)->tip().id, page);
  EXPECT_NE((*chain)->files.list().Find("PG_VERSION"), nullptr);
  EXPECT_EQ((*Resolve(full))->members.size(), 1u);
  EXPECT_EQ((*Resolve("latest"))->tip().id, page);
}

TEST_F(ChainTest, AMissingParentMakesTheChainIncomplete) {
  const std::string full = AddBackup(ts::BackupMode::kFull);
  const std::string delta = AddBackup(ts::BackupMode::kDelta);
  std::filesystem::remove_all(writer_.BackupDirectory(full));
  const absl::Status status = Resolve(delta).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(status), "CHAIN_INCOMPLETE");
  EXPECT_NE(status.message().find(full), absl::string_view::npos) << status;
  EXPECT_EQ(ReasonOf(Resolve("").status()), "CHAIN_INCOMPLETE") << "that of the newest";
}

TEST_F(ChainTest, MembersThatAreNotUsableAreNamedWithTheirStatus) {
  for (const char* status :
       {"RUNNING", "ERROR", "CORRUPT", "ORPHAN", "MERGING", "MERGED", "DELETING", "HIDDEN"}) {
    SCOPED_TRACE(status);
    const std::string full = AddBackup(ts::BackupMode::kFull, {}, status);
    ts::BackupOptions options;
    options.parent_id = full;
    const std::string delta = AddBackup(ts::BackupMode::kDelta, options);
    for (const std::string& id : {full, delta}) {
      const absl::Status error = Resolve(id).status();
      EXPECT_EQ(ReasonOf(error), "BACKUP_NOT_USABLE") << error;
      EXPECT_NE(error.message().find(full), absl::string_view::npos) << error;
      EXPECT_NE(error.message().find(status), absl::string_view::npos) << error;
    }
    const bool forcible = std::string(status) == "CORRUPT" || std::string(status) == "ORPHAN";
    EXPECT_EQ(Resolve(delta, true).ok(), forcible);
  }
}

TEST_F(ChainTest, LatestIsTheNewestThatCanBeMounted) {
  const std::string full = AddBackup(ts::BackupMode::kFull);
  AddBackup(ts::BackupMode::kDelta, {}, "ERROR");
  std::filesystem::create_directory(writer_.BackupDirectory("ZZZZZZ"));
  const auto backups = OpenInstance()->ListBackups();
  ASSERT_TRUE(backups.ok());
  EXPECT_EQ(backups->size(), 3u);
  EXPECT_EQ((*FindBackup(*backups, "latest", false))->id, full);
  EXPECT_TRUE(FindChain(*backups, (*backups)[0], false).ok());
  EXPECT_FALSE(FindChain(*backups, (*backups)[1], false).ok());
}

TEST_F(ChainTest, AnUnknownIdNamesTheClosest) {
  const std::string full = AddBackup(ts::BackupMode::kFull);
  const absl::Status status = Resolve("TOW28W").status();
  EXPECT_EQ(ReasonOf(status), "BACKUP_NOT_FOUND");
  EXPECT_NE(status.message().find(full), absl::string_view::npos) << status;
  EXPECT_EQ(ReasonOf(Resolve("../etc").status()), "BACKUP_NOT_FOUND");
}

TEST_F(ChainTest, FormatsThatAreNotSupportedAreRefused) {
  const auto reason_of = [this](const ts::BackupOptions& options) {
    return ReasonOf(Resolve(AddBackup(ts::BackupMode::kFull, options)).status());
  };
  ts::BackupOptions options;
  options.block_size = 16384;
  EXPECT_EQ(reason_of(options), "UNSUPPORTED_FORMAT");
  for (const char* version : {"", "2.0.16", "1.1.0", "3.0.0"}) {
    options = {};
    options.program_version = version;
    EXPECT_EQ(reason_of(options), "UNSUPPORTED_FORMAT") << version;
  }
  for (const char* version : {"2.0.17", "2.1.4", "2.3.5", "2.4.1", "2.6.0"}) {
    options = {};
    options.program_version = version;
    EXPECT_EQ(reason_of(options), "") << version;
  }
}

TEST_F(ChainTest, LongListsOfThreeVersionsAreNotTrusted) {
  for (const char* version : {"2.1.4", "2.1.5", "2.2.1", "2.2.0"}) {
    ts::BackupOptions options;
    options.program_version = version;
    const std::string id = AddBackup(ts::BackupMode::kFull, options);
    const std::string list = absl::StrCat(writer_.BackupDirectory(id), "/backup_content.control");
    std::string text = ts::ReadWholeFile(list);
    text.resize(kBrokenListBytes - 1, '\n');
    ts::ReplaceFile(list, text, 0600);
    EXPECT_TRUE(Resolve(id).ok()) << Resolve(id).status();
    ts::ReplaceFile(list, text + "\n", 0600);
    const absl::Status status = Resolve(id).status();
    EXPECT_EQ(ReasonOf(status), std::string(version) == "2.2.0" ? "" : "CATALOG_CORRUPT");
  }
}

TEST_F(ChainTest, ParentAndChildMustFitEachOther) {
  ts::BackupOptions full_options;
  full_options.start_time = 1795325792;
  full_options.start_lsn = 0x10000028;
  const std::string full = AddBackup(ts::BackupMode::kFull, full_options);
  const auto reason_of = [&](ts::BackupOptions options) {
    options.parent_id = full;
    return ReasonOf(Resolve(AddBackup(ts::BackupMode::kDelta, options)).status());
  };
  ts::BackupOptions options;
  EXPECT_EQ(reason_of(options), "");
  options.server_version = "16";
  EXPECT_EQ(reason_of(options), "CATALOG_CORRUPT");
  options = {};
  options.start_lsn = 0x4000028;
  EXPECT_EQ(reason_of(options), "CATALOG_CORRUPT");
  options = {};
  options.start_time = full_options.start_time - 60;
  EXPECT_EQ(reason_of(options), "CATALOG_CORRUPT");
}

TEST_F(ChainTest, CyclesOfParentsEnd) {
  ts::BackupOptions options;
  options.start_time = 1795325792;
  options.parent_id = "TOW28W";
  const std::string id = AddBackup(ts::BackupMode::kDelta, options);
  EXPECT_EQ(id, "TOW28W");
  EXPECT_FALSE(Resolve(id).ok());
}

TEST_F(ChainTest, DamagedNeighboursDoNotMatter) {
  const std::string full = AddBackup(ts::BackupMode::kFull);
  const std::string damaged = AddBackup(ts::BackupMode::kFull);
  ts::WriteWholeFile(Control(damaged), std::string("\0\1\2", 3), 0600);
  std::filesystem::create_directory(writer_.BackupDirectory("notabackup"));
  std::filesystem::create_directory(writer_.BackupDirectory("not-an-id"));
  ts::WriteWholeFile(store_ + "/backups/main/pg_probackup.conf", "'", 0600);
  ASSERT_EQ(symlink("/", writer_.BackupDirectory("TOW28W").c_str()), 0);
  ASSERT_EQ(
      mkfifo(absl::StrCat(writer_.BackupDirectory("notabackup"), "/backup.control").c_str(), 0600),
      0);
  EXPECT_TRUE(Resolve(full).ok()) << Resolve(full).status();
  const absl::Status status = Resolve(damaged).status();
  EXPECT_EQ(ReasonOf(status), "BACKUP_NOT_USABLE") << status;
  const auto backups = OpenInstance()->ListBackups();
  ASSERT_TRUE(backups.ok());
  EXPECT_EQ(backups->size(), 4u);  // The symlink is not a backup.
}

TEST_F(ChainTest, AListThatFailsItsCrcIsNotRead) {
  const std::string full = AddBackup(ts::BackupMode::kFull);
  const std::string list = absl::StrCat(writer_.BackupDirectory(full), "/backup_content.control");
  Edit(list, "PG_VERSION", "PG_VERSIOM");
  const absl::Status status = Resolve(full).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ReasonOf(status), "CATALOG_CORRUPT");
  EXPECT_NE(status.message().find(full), absl::string_view::npos) << status;
}

TEST_F(ChainTest, AFullCannotListUnchangedFiles) {
  auto backup = writer_.Begin(ts::BackupMode::kFull);
  ts::AddMinimalCluster(*backup);
  backup->AddUnchangedFile("some_file", 10, 1);
  EXPECT_EQ(ReasonOf(Resolve(backup->Finish()).status()), "CATALOG_CORRUPT");
}

TEST_F(ChainTest, OnlyChangesThatConcernTheFilesCountAsChanges) {
  const std::string full = AddBackup(ts::BackupMode::kFull, {}, "DONE");
  const auto chain = Resolve(full);
  ASSERT_TRUE(chain.ok()) << chain.status();
  EXPECT_TRUE((*chain)->CheckUnchanged(0).ok());
  Edit(Control(full), "status = DONE", "status = OK\nnote = 'validated'");
  EXPECT_TRUE((*chain)->CheckUnchanged(0).ok()) << (*chain)->CheckUnchanged(0);

  Edit(Control(full), "status = OK", "status = MERGING");
  absl::Status status = (*chain)->CheckUnchanged(0);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ErrnoOf(status), EIO);
  EXPECT_NE(status.message().find("MERGING"), absl::string_view::npos) << status;

  std::filesystem::remove_all(writer_.BackupDirectory(full));
  EXPECT_EQ((*chain)->CheckUnchanged(0).code(), absl::StatusCode::kUnavailable);
}

TEST_F(ChainTest, AReplacedListIsAChange) {
  const std::string full = AddBackup(ts::BackupMode::kFull);
  const auto chain = Resolve(full);
  ASSERT_TRUE(chain.ok()) << chain.status();
  const std::string list = absl::StrCat(writer_.BackupDirectory(full), "/backup_content.control");
  ts::ReplaceFile(list, ts::ReadWholeFile(list) + "\n", 0600);
  Edit(Control(full), "status = OK", "status = DONE");
  EXPECT_EQ((*chain)->CheckUnchanged(0).code(), absl::StatusCode::kUnavailable);
}

TEST(CatalogTest, StoresAndInstancesThatAreNotThereAreNotFound) {
  const ts::TemporaryDirectory directory;
  EXPECT_EQ(ReasonOf(Catalog::Open("relative").status()), "STORE_NOT_FOUND");
  EXPECT_EQ(ReasonOf(Catalog::Open(directory.path() + "/none").status()), "STORE_NOT_FOUND");
  EXPECT_EQ(ReasonOf(Catalog::Open(directory.path()).status()), "STORE_NOT_FOUND");
  const ts::CatalogWriter one(directory.path(), "one");
  const ts::CatalogWriter two(directory.path(), "two");
  const auto catalog = Catalog::Open(directory.path());
  ASSERT_TRUE(catalog.ok()) << catalog.status();
  EXPECT_EQ(*(*catalog)->ListInstances(), (std::vector<std::string>{"one", "two"}));
  EXPECT_TRUE((*catalog)->OpenInstance("one").ok());
  for (const char* name : {"three", "", ".", "..", "one/../two", "../../etc"}) {
    const absl::Status status = (*catalog)->OpenInstance(name).status();
    EXPECT_EQ(ReasonOf(status), "INSTANCE_NOT_FOUND") << name;
    EXPECT_NE(status.message().find("one, two"), absl::string_view::npos) << status;
  }
}

TEST(BeneathTest, NothingOutsideOfTheDirectoryCanBeOpened) {
  const ts::TemporaryDirectory directory;
  const std::string& root = directory.path();
  std::filesystem::create_directory(root + "/in");
  ts::WriteWholeFile(root + "/secret", "x", 0600);
  ts::WriteWholeFile(root + "/in/file", "12345", 0600);
  ASSERT_EQ(symlink("../secret", (root + "/in/link").c_str()), 0);
  ASSERT_EQ(symlink(root.c_str(), (root + "/in/dirlink").c_str()), 0);
  ASSERT_EQ(mkfifo((root + "/in/fifo").c_str(), 0600), 0);
  const UniqueFd in(open((root + "/in").c_str(), O_RDONLY | O_DIRECTORY));
  for (const std::string& path :
       {std::string("../secret"), root + "/secret", std::string("link"),
        std::string("dirlink/secret"), std::string("fifo"), std::string(".")}) {
    EXPECT_FALSE(OpenRegularBeneath(in.get(), path).ok()) << path;
  }
  const auto file = OpenRegularBeneath(in.get(), "file");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->identity.size, 5);
  EXPECT_EQ(*ReadWhole(*file, 5), "12345");
  EXPECT_FALSE(ReadWhole(*file, 4).ok());
  std::vector<uint8_t> out(4);
  EXPECT_TRUE(ReadExactly(file->fd.get(), 1, absl::MakeSpan(out)).ok());
  EXPECT_FALSE(ReadExactly(file->fd.get(), 2, absl::MakeSpan(out)).ok());
  EXPECT_EQ(*ListDirectories(in.get()), std::vector<std::string>());
}

}  // namespace
}  // namespace pbkfs
