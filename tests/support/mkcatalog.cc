// mkcatalog: makes backup catalogs for tests and demonstrations, of a running PostgreSQL or out of
// thin air.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "tests/support/catalog_writer.h"
#include "tests/support/cluster_backup.h"
#include "tests/support/fatal.h"
#include "tests/support/synthetic_cluster.h"

namespace pbkfs::testsupport {
namespace {

constexpr char kUsage[] =
    "usage: mkcatalog backup --catalog DIR --instance NAME --pgdata DIR --psql COMMAND\n"
    "                        --mode full|delta [--codec none|zlib|pglz] [--level N] [--parent ID]\n"
    "       mkcatalog synthetic --catalog DIR --instance NAME [--relations N] [--blocks M] "
    "[--backups K]\n"
    "                        [--codec none|zlib|pglz]\n"
    "Prints the id of the (last) backup.\n";

[[noreturn]] void UsageError(const std::string& problem) {
  fprintf(stderr, "mkcatalog: %s\n%s", problem.c_str(), kUsage);
  exit(2);
}

// "--name value" pairs; every option has a value.
class Flags {
 public:
  Flags(int argc, char** argv) {
    for (int i = 2; i < argc; i += 2) {
      const std::string_view name = argv[i];
      if (!name.starts_with("--") || i + 1 >= argc)
        UsageError("expected --OPTION VALUE at '" + std::string(name) + "'");
      values_[std::string(name.substr(2))] = argv[i + 1];
    }
  }

  std::string Take(const std::string& name,
                   const std::optional<std::string>& otherwise = std::nullopt) {
    const auto found = values_.extract(name);
    if (!found.empty()) return found.mapped();
    if (!otherwise) UsageError("--" + name + " is missing");
    return *otherwise;
  }

  int TakeNumber(const std::string& name, int otherwise) {
    const std::string text = Take(name, std::to_string(otherwise));
    char* end = nullptr;
    const long number = strtol(text.c_str(), &end, 10);
    if (text.empty() || *end != '\0' || number < 0 || number > 100'000'000) {
      UsageError("--" + name + " needs a number, not '" + text + "'");
    }
    return static_cast<int>(number);
  }

  Codec TakeCodec() {
    const std::string word = Take("codec", "zlib");
    for (Codec codec : {Codec::kNone, Codec::kZlib, Codec::kPglz}) {
      if (word == CodecName(codec)) return codec;
    }
    UsageError("unknown codec '" + word + "'");
  }

  void ExpectEmpty() const {
    if (!values_.empty()) UsageError("unknown option --" + values_.begin()->first);
  }

 private:
  std::map<std::string, std::string> values_;
};

std::string RunBackup(Flags& flags) {
  ClusterBackupOptions options;
  options.catalog = flags.Take("catalog");
  options.instance = flags.Take("instance");
  options.pgdata = flags.Take("pgdata");
  options.psql = flags.Take("psql");
  const std::string mode = flags.Take("mode");
  if (mode != "full" && mode != "delta") UsageError("unknown mode '" + mode + "'");
  options.mode = mode == "full" ? BackupMode::kFull : BackupMode::kDelta;
  options.codec = flags.TakeCodec();
  options.zlib_level = flags.TakeNumber("level", 1);
  options.parent_id = flags.Take("parent", "");
  flags.ExpectEmpty();
  return BackUpCluster(options);
}

std::string RunSynthetic(Flags& flags) {
  CatalogWriter writer(flags.Take("catalog"), flags.Take("instance"));
  SyntheticChain chain;
  chain.relations = flags.TakeNumber("relations", chain.relations);
  chain.blocks = static_cast<uint32_t>(flags.TakeNumber("blocks", static_cast<int>(chain.blocks)));
  chain.backups = flags.TakeNumber("backups", chain.backups);
  chain.codec = flags.TakeCodec();
  flags.ExpectEmpty();
  return WriteSyntheticChain(writer, chain);
}

}  // namespace

int Main(int argc, char** argv) {
  // A psql that dies shows as an error of the next write.
  signal(SIGPIPE, SIG_IGN);
  if (argc < 2) UsageError("say what to do");
  const std::string_view command = argv[1];
  if (command == "--help") {
    fputs(kUsage, stdout);
    return 0;
  }
  if (command != "backup" && command != "synthetic")
    UsageError("unknown command '" + std::string(command) + "'");
  Flags flags(argc, argv);
  const std::string id = command == "backup" ? RunBackup(flags) : RunSynthetic(flags);
  puts(id.c_str());
  return 0;
}

}  // namespace pbkfs::testsupport

int main(int argc, char** argv) { return pbkfs::testsupport::Main(argc, argv); }
