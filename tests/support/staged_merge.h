// A merge of FULL … DEST that can be stopped after every step that a real one could be stopped at
// (format description, section 1.4), and gone on with later, by another process too.
//
// What is yet to be moved into place waits in `<catalog>.merge`, a directory beside the catalog.
#ifndef PBKFS_TESTS_SUPPORT_STAGED_MERGE_H_
#define PBKFS_TESTS_SUPPORT_STAGED_MERGE_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catalog_writer.h"
#include "tests/support/model_cluster.h"

namespace pbkfs::testsupport {

// In the order in which they come.
enum class MergeStage {
  kMarked,              // Statuses say MERGING; no file has changed.
  kHalfReplaced,        // Every second file of the FULL is that of DEST.
  kFilesReplaced,       // All of them; map and list are still those of the FULL.
  kMapReplaced,         // The list is still that of the FULL.
  kListReplaced,        // List and control describe DEST, but for start-time and status.
  kObsoleteDeleted,     // Files that DEST does not have are gone, but for stale ones of size 0.
  kMerged,              // The FULL is MERGED, the increments still say MERGING.
  kIncrementsDeleting,  // They say DELETING and have lost half of their files.
  kIncrementsRemoved,
  kRenamed,   // The FULL's directory has DEST's name; its control is as before.
  kFinished,  // start-time and status are those of DEST, and DEST's children work again.
};
std::string_view MergeStageName(MergeStage stage);  // "half-replaced"
std::optional<MergeStage> ParseMergeStage(std::string_view name);
inline constexpr int kMergeStages = static_cast<int>(MergeStage::kFinished) + 1;

struct MergeOptions {
  std::string full_id;
  // The increments that are merged, oldest first; the last one is DEST.
  std::vector<std::string> increments;
  Codec codec = Codec::kZlib;
  HeaderMapFault header_map = HeaderMapFault::kNone;  // kShifted: the merge is a retried one.
};

class StagedMerge {
 public:
  // `catalog` and `instance` as given to the CatalogWriter; `at_dest` is the cluster at DEST.
  StagedMerge(std::string catalog, std::string instance, MergeOptions options);

  // Takes all steps that are missing up to and including `stage`.
  void AdvanceTo(MergeStage stage, const ModelCluster& at_dest);

 private:
  void Prepare(const ModelCluster& at_dest);
  void Take(MergeStage step);
  void ReplaceFiles(bool every_second_only);
  void ReplaceList();
  void DeleteObsolete();
  void DeleteHalfOf(const std::string& id);
  std::string Directory(const std::string& id) const { return instance_directory_ + "/" + id; }
  const std::string& dest() const { return options_.increments.back(); }

  const std::string instance_directory_;
  const std::string scratch_;  // Catalog in which the merged FULL is made.
  const std::string instance_;
  const MergeOptions options_;
};

// Changes one key of a backup.control through a new file, as pg_probackup does; an empty value
// removes it.
void SetControlKey(const std::string& backup_directory, const std::string& key,
                   const std::string& value);

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_STAGED_MERGE_H_
