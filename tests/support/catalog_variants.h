// Catalogs of every kind that there is, by name: old program versions, damaged maps, merges stopped
// half-way, external directories, CFS, foreign codecs, long chains. Each comes with the state of
// the cluster at each of its backups, so that whoever reads it knows the bytes that must come out.
#ifndef PBKFS_TESTS_SUPPORT_CATALOG_VARIANTS_H_
#define PBKFS_TESTS_SUPPORT_CATALOG_VARIANTS_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catalog_writer.h"
#include "tests/support/model_cluster.h"
#include "tests/support/staged_merge.h"

namespace pbkfs::testsupport {

enum class Readable {
  kYes,  // A mount must work.
  kNo,   // A mount must be refused.
  kMay   // Both are right; but if it works, the bytes must be these.
};

struct VariantBackup {
  std::string id;
  Readable readable = Readable::kYes;
  ModelCluster cluster;  // Without the files of AddMinimalCluster.
};

struct CatalogVariant {
  std::string name;
  // Writes the catalog; returns its backups, oldest first.
  std::function<std::vector<VariantBackup>(const std::string& catalog, const std::string& instance)>
      write;
};

const std::vector<CatalogVariant>& CatalogVariants();
// Null where there is none of that name.
const CatalogVariant* FindCatalogVariant(std::string_view name);

// The history that most variants tell, for the backups FULL, DELTA, PAGE, DELTA: relations that
// grow, shrink, vanish, come back, stay and are empty, new pages, and plain files likewise.
inline constexpr int kHistoryGenerations = 4;
// Another salt gives the same files with other bytes.
ModelCluster StartOfHistory(uint64_t salt = 0);
// To the next generation.
void ContinueHistory(ModelCluster& cluster);
BackupMode ModeInHistory(int generation);

// Merges the backups up to `dest_generation` of a catalog that variant "history" made.
void AdvanceHistoryMerge(const std::string& catalog, const std::string& instance,
                         int dest_generation, MergeStage stage);

// Catalogs too large to hold a description of each backup.
struct LargeCatalog {
  int entries = 1000;           // Files, half of them empty, half with one block.
  int segments = 8;             // 1 GiB each, of one relation,
  uint32_t stored_blocks = 64;  // of which this many are stored in the FULL,
  uint32_t changed_blocks = 4;  // and this many in each DELTA.
  int backups = 3;
  Codec codec = Codec::kZlib;
};
std::string WriteLargeCatalog(const std::string& catalog, const std::string& instance,
                              const LargeCatalog& shape);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_CATALOG_VARIANTS_H_
