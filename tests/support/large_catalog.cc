// The parts of catalog_variants.h that work on whole catalogs without a description of each backup.
#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/catalog_variants.h"
#include "tests/support/fatal.h"
#include "tests/support/files.h"
#include "tests/support/synthetic_cluster.h"

namespace pbkfs::testsupport {
namespace {

// Databases that the small files are spread over, as no directory holds a hundred thousand.
constexpr int kDatabases = 50;
constexpr int kFirstDatabase = 20000;

std::string SmallFile(int number) {
  return "base/" + std::to_string(kFirstDatabase + number % kDatabases) + "/" +
         std::to_string(30000 + number);
}

}  // namespace

void AdvanceHistoryMerge(const std::string& catalog, const std::string& instance,
                         int dest_generation, MergeStage stage) {
  ModelCluster at_dest = StartOfHistory();
  for (int generation = 0; generation < dest_generation; ++generation) ContinueHistory(at_dest);
  // What the first step of the merge saw: later ones remove the directories of the increments.
  const std::string members_path = catalog + ".merge-members";
  if (!ReadFileIfExists(members_path)) {
    std::string members;
    for (const std::string& id : ListDirectory(catalog + "/backups/" + instance)) {
      if (ParseBackupId(id) > 0) members += id + "\n";
    }
    WriteWholeFile(members_path, members, 0600);
  }
  std::vector<std::string> ids;
  std::string text = ReadWholeFile(members_path);
  for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
    ids.push_back(text.substr(0, end));
  }
  if (ids.size() <= static_cast<size_t>(dest_generation)) {
    Fatal(catalog + " has too few backups to merge");
  }
  const auto first_increment = ids.begin() + 1;
  StagedMerge merge(
      catalog, instance,
      {.full_id = ids[0], .increments = {first_increment, first_increment + dest_generation}});
  merge.AdvanceTo(stage, at_dest);
}

std::string WriteLargeCatalog(const std::string& catalog, const std::string& instance,
                              const LargeCatalog& shape) {
  CatalogWriter writer(catalog, instance);
  ModelCluster cluster;
  for (int database = 0; database < kDatabases; ++database) {
    cluster.SetDirectory("base/" + std::to_string(kFirstDatabase + database));
  }
  for (int number = 0; number < shape.entries; ++number) {
    cluster.CreateSparseRelation(SmallFile(number), 0, number % 2 == 0 ? 1 : 0);
    if (number % 2 == 0) cluster.WriteBlock(SmallFile(number), 0, PageFill::kSparse);
  }
  const uint32_t stride = kBlocksPerSegment / std::max(shape.stored_blocks, 1u);
  for (int segment = 0; segment < shape.segments; ++segment) {
    const std::string path = SyntheticPath(0, static_cast<uint32_t>(segment));
    cluster.CreateSparseRelation(path, segment, kBlocksPerSegment);
    for (uint32_t i = 0; i < shape.stored_blocks; ++i) cluster.WriteBlock(path, i * stride);
  }
  std::string id;
  for (int generation = 0; generation < shape.backups; ++generation) {
    if (generation > 0) cluster.NextGeneration();
    for (int segment = 0; generation > 0 && segment < shape.segments; ++segment) {
      for (uint32_t i = 0; i < shape.changed_blocks; ++i) {
        const uint32_t block = (i * 7 + static_cast<uint32_t>(generation)) % shape.stored_blocks;
        cluster.WriteBlock(SyntheticPath(0, static_cast<uint32_t>(segment)), block * stride);
      }
    }
    BackupOptions options;
    options.codec = shape.codec;
    const auto backup =
        writer.Begin(generation == 0 ? BackupMode::kFull : BackupMode::kDelta, options);
    AddMinimalCluster(*backup);
    cluster.StoreIn(*backup);
    id = backup->Finish();
  }
  return id;
}

}  // namespace pbkfs::testsupport
