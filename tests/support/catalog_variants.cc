#include "tests/support/catalog_variants.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "tests/support/data_file_writer.h"
#include "tests/support/synthetic_cluster.h"

namespace pbkfs::testsupport {
namespace {

using OptionsOf = std::function<BackupOptions(int generation)>;

// Every tag at which something changed in the format.
constexpr const char* kOldVersions[] = {"2.0.17", "2.0.18", "2.0.21", "2.0.22", "2.0.23", "2.0.24",
                                        "2.0.25", "2.1.0",  "2.1.5",  "2.2.0",  "2.2.7",  "2.3.0",
                                        "2.3.1",  "2.3.2",  "2.3.5",  "2.4.1",  "2.4.4",  "2.4.6",
                                        "2.5.8",  "2.5.9",  "2.5.16"};
// Salt of a second cluster with the files, lengths and backup ids of the first, but other bytes.
constexpr uint64_t kOtherPages = 1;
constexpr char kTable[] = "base/5/16390";
constexpr char kExternalDirs[] = "/srv/first:/srv/second";

VariantBackup Take(CatalogWriter& writer, const ModelCluster& cluster, BackupMode mode,
                   const BackupOptions& options) {
  const auto backup = writer.Begin(mode, options);
  AddMinimalCluster(*backup);
  cluster.StoreIn(*backup);
  return {backup->Finish(), Readable::kYes, cluster};
}

std::vector<VariantBackup> WriteHistory(const std::string& catalog, const std::string& instance,
                                        const OptionsOf& options_of, uint64_t salt = 0) {
  CatalogWriter writer(catalog, instance);
  std::vector<VariantBackup> backups;
  ModelCluster cluster = StartOfHistory(salt);
  for (int generation = 0; generation < kHistoryGenerations; ++generation) {
    if (generation > 0) ContinueHistory(cluster);
    backups.push_back(Take(writer, cluster, ModeInHistory(generation), options_of(generation)));
  }
  return backups;
}

CatalogVariant History(const std::string& name, const OptionsOf& options_of) {
  return {name, [options_of](const std::string& catalog, const std::string& instance) {
            return WriteHistory(catalog, instance, options_of);
          }};
}

BackupOptions OfVersion(const std::string& version, Codec codec = Codec::kZlib) {
  BackupOptions options;
  options.program_version = version;
  options.codec = codec;
  return options;
}

BackupOptions WithMap(HeaderMapFault fault) {
  BackupOptions options;
  options.header_map = fault;
  return options;
}

// Every member by another program, the oldest by the oldest.
BackupOptions MixedVersions(int generation) {
  constexpr const char* kVersions[] = {"2.0.17", "2.2.7", "2.3.5", "2.5.16"};
  constexpr Codec kCodecs[] = {Codec::kZlib, Codec::kPglz, Codec::kNone, Codec::kZlib};
  return OfVersion(kVersions[generation], kCodecs[generation]);
}

// A page whose compressed form has exactly 8192 bytes: random bytes, of which more and more are
// made compressible until the length is right.
std::optional<uint64_t> SeedOfQuirkPage(Codec codec, uint32_t block) {
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    const Page page = MakePage(seed, 0x3000028, block, PageFill::kNearlyRandom);
    if (EncodePage(page, codec, 1, false).size() == kBlockSize &&
        EncodePage(page, codec, 1, false) != EncodePage(page, Codec::kNone, 1)) {
      return seed;
    }
  }
  return std::nullopt;
}

// ---- Merges ----

Readable ReadableAt(MergeStage stage, int generation, int dest) {
  if (stage == MergeStage::kFinished) return generation < dest ? Readable::kNo : Readable::kYes;
  if (generation < dest || stage < MergeStage::kMerged) return Readable::kNo;
  // DEST's own directory still says MERGING; younger backups hang from a MERGED one.
  if (generation > dest || stage == MergeStage::kMerged) return Readable::kMay;
  return Readable::kYes;
}

std::vector<VariantBackup> WriteMerge(const std::string& catalog, const std::string& instance,
                                      MergeStage stage, HeaderMapFault fault) {
  constexpr int kDest = 2;
  std::vector<VariantBackup> backups =
      WriteHistory(catalog, instance, [](int) { return BackupOptions(); });
  StagedMerge merge(catalog, instance,
                    {.full_id = backups[0].id,
                     .increments = {backups[1].id, backups[2].id},
                     .header_map = fault});
  merge.AdvanceTo(stage, backups[kDest].cluster);
  for (int generation = 0; generation < kHistoryGenerations; ++generation) {
    backups[static_cast<size_t>(generation)].readable = ReadableAt(stage, generation, kDest);
  }
  return backups;
}

// ---- The others ----

std::vector<VariantBackup> WriteExternal(const std::string& catalog, const std::string& instance) {
  CatalogWriter writer(catalog, instance);
  BackupOptions options;
  // Not in order: the numbers are those of the sorted names.
  options.external_dirs = "/srv/second:/srv/first";
  ModelCluster cluster = StartOfHistory();
  for (int number : {1, 2}) {
    cluster.SetDirectory("inner", number);
    cluster.SetFile("same-name", "of directory " + std::to_string(number), number);
    cluster.SetFile("inner/empty", "", number, 0100644);
    cluster.SetFile("inner/16384", std::string(20000, 'e'), number);
  }
  std::vector<VariantBackup> backups = {Take(writer, cluster, BackupMode::kFull, options)};
  ContinueHistory(cluster);
  cluster.SetFile("same-name", "changed in the second", 2);
  cluster.Drop("inner/empty", 1);
  options.external_dirs = kExternalDirs;
  backups.push_back(Take(writer, cluster, BackupMode::kDelta, options));
  return backups;
}

std::vector<VariantBackup> WriteCfs(const std::string& catalog, const std::string& instance) {
  const std::string base = "pg_tblspc/16500/PG_15_202209061/5/";
  CatalogWriter writer(catalog, instance);
  ModelCluster cluster = StartOfHistory();
  for (const char* directory : {"pg_tblspc/16500", "pg_tblspc/16500/PG_15_202209061",
                                "pg_tblspc/16500/PG_15_202209061/5"}) {
    cluster.SetDirectory(directory);
  }
  cluster.SetCfsFile(base + "16501", std::string(12345, 'c'), 0, 0);
  cluster.SetCfsFile(base + "16501.cfm", std::string(4096, 'm'), std::nullopt, 1 << 20);
  cluster.SetCfsFile(base + "16502", std::string(777, 'd'), 0, 0);
  cluster.SetFile("pg_tblspc/16500/PG_15_202209061/pg_compression", "zlib\n");
  std::vector<VariantBackup> backups = {Take(writer, cluster, BackupMode::kFull, {})};
  ContinueHistory(cluster);
  cluster.SetCfsFile(base + "16501", std::string(23456, 'C'), 0, 0);
  cluster.SetCfsFile(base + "16501.cfm", std::string(5000, 'M'), std::nullopt, 1 << 20);
  backups.push_back(Take(writer, cluster, BackupMode::kDelta, {}));
  return backups;
}

std::vector<VariantBackup> WriteQuirk(const std::string& catalog, const std::string& instance,
                                      const std::string& version, Codec codec) {
  CatalogWriter writer(catalog, instance);
  ModelCluster cluster = StartOfHistory();
  cluster.CreateRelation("base/5/16499", 0, 6);
  for (uint32_t block : {1u, 4u}) {
    cluster.WriteBlock("base/5/16499", block, PageFill::kNearlyRandom);
    cluster.SetSeed("base/5/16499", block, SeedOfQuirkPage(codec, block).value());
  }
  return {Take(writer, cluster, BackupMode::kFull, OfVersion(version, codec))};
}

std::vector<VariantBackup> WriteLongChain(const std::string& catalog, const std::string& instance) {
  constexpr int kMembers = 30;
  CatalogWriter writer(catalog, instance);
  ModelCluster cluster;
  cluster.CreateRelation(kTable, 0, 64);
  cluster.SetFile("pg_hba.extra", "unchanged for thirty backups\n");
  std::vector<VariantBackup> backups = {Take(writer, cluster, BackupMode::kFull, {})};
  for (uint32_t generation = 1; generation < kMembers; ++generation) {
    cluster.NextGeneration();
    cluster.WriteBlock(kTable, generation * 7 % 64);
    cluster.WriteBlock(kTable, 64 + generation);
    backups.push_back(Take(writer, cluster, BackupMode::kDelta, {}));
  }
  return backups;
}

std::vector<VariantBackup> WriteSparseClaims(const std::string& catalog,
                                             const std::string& instance) {
  CatalogWriter writer(catalog, instance);
  ModelCluster cluster;
  for (int segment = 0; segment < 3; ++segment) {
    const std::string path = SyntheticPath(0, static_cast<uint32_t>(segment));
    cluster.CreateSparseRelation(path, segment, kBlocksPerSegment);
    for (uint32_t block : {0u, 1u, 77777u, kBlocksPerSegment - 1}) cluster.WriteBlock(path, block);
  }
  std::vector<VariantBackup> backups = {Take(writer, cluster, BackupMode::kFull, {})};
  cluster.NextGeneration();
  cluster.WriteBlock(SyntheticPath(0, 1), 77777, PageFill::kRandom);
  cluster.WriteBlock(SyntheticPath(0, 1), 90000);
  backups.push_back(Take(writer, cluster, BackupMode::kPage, {}));
  return backups;
}

std::vector<CatalogVariant> MakeVariants() {
  std::vector<CatalogVariant> variants = {
      History("history", [](int) { return BackupOptions(); }),
      {"history-other", [](const std::string& catalog, const std::string& instance) {
         return WriteHistory(
             catalog, instance, [](int) { return BackupOptions(); }, kOtherPages);
       }}};
  for (const char* version : kOldVersions) {
    const std::string name = "v" + std::string(version) + "-";
    variants.push_back(History(name + "zlib", [=](int) { return OfVersion(version); }));
  }
  for (const char* version : {"2.0.17", "2.0.23", "2.3.5", "2.5.16"}) {
    for (Codec codec : {Codec::kNone, Codec::kPglz}) {
      variants.push_back(History("v" + std::string(version) + "-" + std::string(CodecName(codec)),
                                 [=](int) { return OfVersion(version, codec); }));
    }
  }
  for (Codec codec : {Codec::kLz4, Codec::kZstd}) {
    variants.push_back(
        History(std::string(CodecName(codec)), [=](int) { return OfVersion("2.5.16", codec); }));
  }
  variants.push_back(History("mixed-versions", MixedVersions));
  variants.push_back(History("map-missing", [](int) { return WithMap(HeaderMapFault::kMissing); }));
  variants.push_back(History("map-shifted", [](int) { return WithMap(HeaderMapFault::kShifted); }));
  variants.push_back(History("map-damaged", [](int) { return WithMap(HeaderMapFault::kDamaged); }));
  for (int stage = 0; stage < kMergeStages; ++stage) {
    const auto write = [stage](const std::string& catalog, const std::string& instance) {
      return WriteMerge(catalog, instance, static_cast<MergeStage>(stage), HeaderMapFault::kNone);
    };
    variants.push_back(
        {"merge-" + std::string(MergeStageName(static_cast<MergeStage>(stage))), write});
  }
  variants.push_back({"merge-retried", [](const std::string& catalog, const std::string& instance) {
                        return WriteMerge(catalog, instance, MergeStage::kFinished,
                                          HeaderMapFault::kShifted);
                      }});
  for (const char* version : {"2.0.22", "2.0.23"}) {
    for (Codec codec : {Codec::kZlib, Codec::kPglz}) {
      variants.push_back(
          {"full-page-v" + std::string(version) + "-" + std::string(CodecName(codec)),
           [=](const std::string& catalog, const std::string& instance) {
             return WriteQuirk(catalog, instance, version, codec);
           }});
    }
  }
  variants.push_back({"external", WriteExternal});
  variants.push_back({"cfs", WriteCfs});
  variants.push_back({"chain-30", WriteLongChain});
  variants.push_back({"sparse-claims", WriteSparseClaims});
  return variants;
}

}  // namespace

const std::vector<CatalogVariant>& CatalogVariants() {
  static const std::vector<CatalogVariant> variants = MakeVariants();
  return variants;
}

const CatalogVariant* FindCatalogVariant(std::string_view name) {
  for (const CatalogVariant& variant : CatalogVariants()) {
    if (variant.name == name) return &variant;
  }
  return nullptr;
}

ModelCluster StartOfHistory(uint64_t salt) {
  ModelCluster cluster(salt);
  cluster.CreateRelation(kTable, 0, 40);          // Grows and is written to.
  cluster.CreateRelation("base/5/16391", 0, 10);  // Truncated, then grows again.
  cluster.CreateRelation("base/5/16392", 0, 5);   // Truncated to nothing, then grows again.
  cluster.CreateRelation("base/5/16393", 0, 8);   // Dropped, and its number used again.
  cluster.CreateRelation("base/5/16394", 0, 12);  // Stays.
  cluster.CreateRelation("base/5/16395", 0, 0);   // Empty; grows.
  cluster.CreateRelation("base/5/16396", 0, 0);   // Empty, stays.
  cluster.CreateRelation("base/5/16397", 0, 9);   // Truncated to nothing, stays so.
  cluster.CreateRelation("base/5/16398", 1, 6);   // Checksums count from the relation's start.
  cluster.SetFile("base/5/16390_vm", std::string(8192, static_cast<char>('v' + salt)));
  cluster.SetFile("base/5/pg_filenode.map", std::string(524, 'f'));
  cluster.SetFile("extra.conf", "one\n", 0, 0100640);
  cluster.SetFile("emptied", "bytes\n");
  cluster.SetFile("dropped", "bytes\n");
  cluster.SetFile("empty", "");
  cluster.SetDirectory("base/5/odd", 0, 040755);
  return cluster;
}

void ContinueHistory(ModelCluster& cluster) {
  cluster.NextGeneration();
  const int generation = cluster.generation();
  cluster.WriteBlock(kTable, static_cast<uint32_t>(generation));
  cluster.WriteBlock(kTable, 20, PageFill::kRandom);
  // Always stored, as its bytes may change at any time.
  cluster.SetFile("base/5/pg_filenode.map", std::string(524, static_cast<char>('f' + generation)));
  switch (generation) {
    case 1:  // DELTA
      cluster.Truncate("base/5/16391", 4);
      cluster.Truncate("base/5/16392", 0);
      cluster.Truncate("base/5/16397", 0);
      cluster.Drop("base/5/16393");
      cluster.WriteBlock("base/5/16395", 0);
      cluster.Extend("base/5/16395", 6);
      cluster.SetFile("extra.conf", "two\n", 0, 0100640);
      cluster.SetFile("emptied", "");
      cluster.Drop("dropped");
      break;
    case 2:  // PAGE
      for (uint32_t block : {4u, 5u, 6u}) cluster.WriteBlock("base/5/16391", block);
      for (uint32_t block : {0u, 1u}) cluster.WriteBlock("base/5/16392", block);
      cluster.CreateRelation("base/5/16393", 0, 3);
      cluster.Truncate("base/5/16394", 11);
      cluster.WriteBlock("base/5/16398", 2, PageFill::kSparse);
      cluster.SetFile("base/5/16390_vm", std::string(8192, 'V'));
      cluster.SetFile("new", "in the third\n");
      break;
    case 3:  // DELTA
      cluster.WriteBlock("base/5/16394", 11);
      cluster.WriteBlock(kTable, 45, PageFill::kZero);
      cluster.Truncate("base/5/16391", 2);
      break;
    default:
      break;
  }
}

BackupMode ModeInHistory(int generation) {
  constexpr BackupMode kModes[] = {BackupMode::kFull, BackupMode::kDelta, BackupMode::kPage};
  return generation < 3 ? kModes[generation] : BackupMode::kDelta;
}

}  // namespace pbkfs::testsupport
