// mkcatalog: makes backup catalogs for tests and demonstrations, of a running PostgreSQL or out of
// thin air.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catalog_variants.h"
#include "tests/support/catalog_writer.h"
#include "tests/support/cluster_backup.h"
#include "tests/support/fatal.h"
#include "tests/support/files.h"
#include "tests/support/synthetic_cluster.h"

namespace pbkfs::testsupport {
namespace {

constexpr char kUsage[] =
    "usage: mkcatalog backup --catalog DIR --instance NAME --pgdata DIR --psql COMMAND\n"
    "                        --mode full|delta [--codec CODEC] [--level N] [--parent ID]\n"
    "       mkcatalog synthetic --catalog DIR --instance NAME [--relations N] [--blocks M] "
    "[--backups K]\n"
    "                        [--codec CODEC] [--program-version V]\n"
    "                        [--header-map none|missing|shifted|damaged]\n"
    "       mkcatalog synthetic --catalog DIR --instance NAME --variant NAME [--expected DIR]\n"
    "       mkcatalog synthetic --catalog DIR --instance NAME --entries N [--segments N] "
    "[--backups K]\n"
    "                        [--stored-blocks N] [--changed-blocks N] [--codec CODEC]\n"
    "       mkcatalog merge --catalog DIR --instance NAME --stage STAGE [--dest GENERATION]\n"
    "       mkcatalog list variants|stages\n"
    "CODEC is none, zlib, pglz, lz4 or zstd. --variant makes one of the catalogs that \"list\" "
    "names; --expected\n"
    "writes what a reader must find: DIR/backups.tsv (id, readable: yes, no or may) and the files "
    "of each backup in\n"
    "DIR/ID/, external ones in DIR/ID.externalN/. --entries makes a large one. merge goes on with "
    "a merge in a\n"
    "catalog of the variant \"history\" until STAGE.\n"
    "Prints the id of the (last) backup, or the stage.\n";

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

  bool Has(const std::string& name) const { return values_.contains(name); }

  Codec TakeCodec() {
    const std::string word = Take("codec", "zlib");
    for (Codec codec : kAllCodecs) {
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

// The bytes that a reader must find, as plain files.
void WriteExpected(const std::string& directory, const std::vector<VariantBackup>& backups) {
  std::string table;
  for (const VariantBackup& backup : backups) {
    table += backup.id + (backup.readable == Readable::kYes  ? "\tyes\n"
                          : backup.readable == Readable::kNo ? "\tno\n"
                                                             : "\tmay\n");
    for (const auto& [key, file] : backup.cluster.files()) {
      const std::string suffix = key.second == 0 ? "" : ".external" + std::to_string(key.second);
      const std::string path = directory + "/" + backup.id + suffix + "/" + key.first;
      if (file.kind == ModelFile::Kind::kDirectory) {
        MakeDirectories(path, 0700);
        continue;
      }
      MakeDirectories(path.substr(0, path.rfind('/')), 0700);
      WriteWholeFile(path, backup.cluster.ExpectedBytes(key.first, file), file.mode & 07777);
    }
  }
  MakeDirectories(directory, 0700);
  WriteWholeFile(directory + "/backups.tsv", table, 0600);
}

std::string RunVariant(Flags& flags) {
  const std::string name = flags.Take("variant");
  const CatalogVariant* variant = FindCatalogVariant(name);
  if (variant == nullptr) UsageError("unknown variant '" + name + "'");
  const std::string catalog = flags.Take("catalog");
  const std::string instance = flags.Take("instance");
  const std::string expected = flags.Take("expected", "");
  flags.ExpectEmpty();
  const std::vector<VariantBackup> backups = variant->write(catalog, instance);
  if (!expected.empty()) WriteExpected(expected, backups);
  return backups.back().id;
}

std::string RunLarge(Flags& flags) {
  const std::string catalog = flags.Take("catalog");
  const std::string instance = flags.Take("instance");
  LargeCatalog shape;
  shape.entries = flags.TakeNumber("entries", shape.entries);
  shape.segments = flags.TakeNumber("segments", shape.segments);
  shape.backups = flags.TakeNumber("backups", shape.backups);
  shape.stored_blocks = static_cast<uint32_t>(
      flags.TakeNumber("stored-blocks", static_cast<int>(shape.stored_blocks)));
  shape.changed_blocks = static_cast<uint32_t>(
      flags.TakeNumber("changed-blocks", static_cast<int>(shape.changed_blocks)));
  shape.codec = flags.TakeCodec();
  flags.ExpectEmpty();
  if (shape.stored_blocks == 0 || shape.stored_blocks > kBlocksPerSegment) {
    UsageError("--stored-blocks is out of range");
  }
  return WriteLargeCatalog(catalog, instance, shape);
}

HeaderMapFault TakeHeaderMap(Flags& flags) {
  const std::string word = flags.Take("header-map", "none");
  if (word == "none") return HeaderMapFault::kNone;
  if (word == "missing") return HeaderMapFault::kMissing;
  if (word == "shifted") return HeaderMapFault::kShifted;
  if (word == "damaged") return HeaderMapFault::kDamaged;
  UsageError("unknown fault of the header map '" + word + "'");
}

std::string RunSynthetic(Flags& flags) {
  if (flags.Has("variant")) return RunVariant(flags);
  if (flags.Has("entries")) return RunLarge(flags);
  CatalogWriter writer(flags.Take("catalog"), flags.Take("instance"));
  SyntheticChain chain;
  chain.relations = flags.TakeNumber("relations", chain.relations);
  chain.blocks = static_cast<uint32_t>(flags.TakeNumber("blocks", static_cast<int>(chain.blocks)));
  chain.backups = flags.TakeNumber("backups", chain.backups);
  chain.codec = flags.TakeCodec();
  chain.options.program_version = flags.Take("program-version", chain.options.program_version);
  chain.options.header_map = TakeHeaderMap(flags);
  flags.ExpectEmpty();
  return WriteSyntheticChain(writer, chain);
}

std::string RunMerge(Flags& flags) {
  const std::string catalog = flags.Take("catalog");
  const std::string instance = flags.Take("instance");
  const std::string name = flags.Take("stage");
  const int dest = flags.TakeNumber("dest", kHistoryGenerations - 1);
  flags.ExpectEmpty();
  const std::optional<MergeStage> stage = ParseMergeStage(name);
  if (!stage) UsageError("unknown stage '" + name + "'");
  if (dest < 1 || dest >= kHistoryGenerations) UsageError("--dest is out of range");
  AdvanceHistoryMerge(catalog, instance, dest, *stage);
  return name;
}

int List(std::string_view what) {
  if (what == "variants") {
    for (const CatalogVariant& variant : CatalogVariants()) puts(variant.name.c_str());
    return 0;
  }
  if (what != "stages") UsageError("say what to list");
  for (int stage = 0; stage < kMergeStages; ++stage) {
    puts(std::string(MergeStageName(static_cast<MergeStage>(stage))).c_str());
  }
  return 0;
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
  if (command == "list") return List(argc == 3 ? argv[2] : "");
  const std::map<std::string_view, std::string (*)(Flags&)> commands = {
      {"backup", RunBackup}, {"synthetic", RunSynthetic}, {"merge", RunMerge}};
  const auto found = commands.find(command);
  if (found == commands.end()) UsageError("unknown command '" + std::string(command) + "'");
  Flags flags(argc, argv);
  puts(found->second(flags).c_str());
  return 0;
}

}  // namespace pbkfs::testsupport

int main(int argc, char** argv) { return pbkfs::testsupport::Main(argc, argv); }
