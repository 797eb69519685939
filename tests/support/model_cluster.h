// A cluster that exists only as a description: which files there are, which blocks each relation
// has, and in which generation each of them was last written. Backups of its generations are made
// out of that description, and so are the bytes that a reader of such a backup must find: they come
// from what was to be stored, and from no stored byte.
//
//   ModelCluster cluster;
//   cluster.CreateRelation("base/5/16384", 0, 10);
//   auto full = writer.Begin(BackupMode::kFull);
//   AddMinimalCluster(*full);
//   cluster.StoreIn(*full);
//   const ModelCluster at_full = cluster;                    // What a mount of the FULL shows.
//   cluster.NextGeneration();
//   cluster.WriteBlock("base/5/16384", 3);
//   auto delta = writer.Begin(BackupMode::kDelta);           // Every generation has its backup.
//   cluster.StoreIn(*delta);
//
// A value: copies are independent. Not thread safe.
#ifndef PBKFS_TESTS_SUPPORT_MODEL_CLUSTER_H_
#define PBKFS_TESTS_SUPPORT_MODEL_CLUSTER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "tests/support/catalog_writer.h"

namespace pbkfs::testsupport {

struct ModelFile {
  enum class Kind { kDirectory, kPlain, kRelation };

  Kind kind = Kind::kPlain;
  uint32_t mode = 0100600;
  int created = 0;  // Generations.
  int changed = 0;  // Of a plain file's bytes.
  int truncated = -1;

  // Plain files. A CFS map is longer in the source than what is stored of it.
  std::string bytes;
  bool is_cfs = false;
  std::optional<int> cfs_segment;
  int64_t full_size = 0;

  // Relations. Blocks that were never written are zero; a `sparse` one does not even store them.
  struct Write {
    int generation = 0;
    PageFill fill = PageFill::kText;
    std::optional<uint64_t> seed = std::nullopt;  // Of the page; nullopt = path and generation.
  };
  int segment = 0;
  uint32_t n_blocks = 0;
  bool sparse = false;
  std::map<uint32_t, Write> blocks;
};

class ModelCluster {
 public:
  // Clusters of different salts have different pages.
  explicit ModelCluster(uint64_t salt = 0) : salt_(salt) {}

  // Path, and the number of the external directory (0 = PGDATA).
  using Key = std::pair<std::string, int>;

  int generation() const { return generation_; }
  void NextGeneration() { ++generation_; }

  // All blocks written, with fills that take turns.
  void CreateRelation(const std::string& path, int segment, uint32_t n_blocks);
  // `n_blocks` long, of which only those are stored that get written.
  void CreateSparseRelation(const std::string& path, int segment, uint32_t n_blocks);
  // Makes the relation longer where the block lies behind its end.
  void WriteBlock(const std::string& path, uint32_t block, PageFill fill = PageFill::kText);
  // Another page at a block that this generation wrote.
  void SetSeed(const std::string& path, uint32_t block, uint64_t seed);
  void Truncate(const std::string& path, uint32_t n_blocks);
  // By zero pages.
  void Extend(const std::string& path, uint32_t n_blocks);
  // Creates or changes a plain file.
  void SetFile(const std::string& path, const std::string& bytes, int external_dir = 0,
               uint32_t mode = 0100600);
  // Plain copies of a compressed tablespace; see FileOptions.
  void SetCfsFile(const std::string& path, const std::string& bytes, std::optional<int> segment,
                  int64_t full_size);
  void SetDirectory(const std::string& path, int external_dir = 0, uint32_t mode = 040700);
  void Drop(const std::string& path, int external_dir = 0);

  // Adds every file to a backup of the current generation: all of it to a FULL, what this
  // generation changed to an incremental.
  void StoreIn(Backup& backup) const;

  const std::map<Key, ModelFile>& files() const { return files_; }
  // What a reader must find. A relation's blocks count from the start of its segment.
  static int64_t Size(const ModelFile& file);
  Page ExpectedPage(const std::string& path, const ModelFile& file, uint32_t block) const;
  std::string ExpectedBytes(const std::string& path, const ModelFile& file) const;

 private:
  ModelFile& At(const std::string& path, int external_dir = 0);
  ModelFile& Create(const std::string& path, int external_dir);
  void StorePlain(Backup& backup, const Key& key, const ModelFile& file) const;
  void StoreRelation(Backup& backup, const std::string& path, const ModelFile& file) const;

  uint64_t salt_;
  int generation_ = 0;
  std::map<Key, ModelFile> files_;
};

}  // namespace pbkfs::testsupport

#endif  // PBKFS_TESTS_SUPPORT_MODEL_CLUSTER_H_
