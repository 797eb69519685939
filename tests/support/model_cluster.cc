#include "tests/support/model_cluster.h"

#include <sys/stat.h>

#include <string_view>

#include "tests/support/fatal.h"

namespace pbkfs::testsupport {
namespace {

// Between the start of the generation's parent and its own start, by the LSNs that
// CatalogWriter::Begin gives: DELTA backups of real clusters store what lies there.
constexpr uint64_t kFirstPageLsn = 0x3000028;
constexpr uint64_t kLsnBetweenGenerations = 0x2000000;

// FNV-1a: equal names give equal pages in every run.
uint64_t SeedOf(std::string_view path, int generation) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (char byte : path) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001B3u;
  return hash + static_cast<uint64_t>(generation) * 0x9E3779B97F4A7C15u;
}

// Most pages compress; some don't, one in sixteen is new.
PageFill FillOf(uint32_t block) {
  switch (block % 16) {
    case 3:
      return PageFill::kRandom;
    case 6:
      return PageFill::kSparse;
    case 11:
      return PageFill::kZero;
    default:
      return PageFill::kText;
  }
}

}  // namespace

ModelFile& ModelCluster::At(const std::string& path, int external_dir) {
  const auto found = files_.find({path, external_dir});
  if (found == files_.end()) Fatal("the model has no file " + path);
  return found->second;
}

ModelFile& ModelCluster::Create(const std::string& path, int external_dir) {
  const auto [place, inserted] = files_.try_emplace({path, external_dir});
  if (!inserted) Fatal("the model has a file " + path + " already");
  place->second.created = place->second.changed = generation_;
  return place->second;
}

void ModelCluster::CreateSparseRelation(const std::string& path, int segment, uint32_t n_blocks) {
  ModelFile& file = Create(path, 0);
  file.kind = ModelFile::Kind::kRelation;
  file.segment = segment;
  file.n_blocks = n_blocks;
  file.sparse = true;
}

void ModelCluster::CreateRelation(const std::string& path, int segment, uint32_t n_blocks) {
  CreateSparseRelation(path, segment, n_blocks);
  At(path).sparse = false;
  for (uint32_t block = 0; block < n_blocks; ++block) WriteBlock(path, block, FillOf(block));
}

void ModelCluster::WriteBlock(const std::string& path, uint32_t block, PageFill fill) {
  ModelFile& file = At(path);
  file.blocks[block] = {.generation = generation_, .fill = fill};
  if (block >= file.n_blocks) file.n_blocks = block + 1;
}

void ModelCluster::SetSeed(const std::string& path, uint32_t block, uint64_t seed) {
  At(path).blocks.at(block).seed = seed;
}

void ModelCluster::Truncate(const std::string& path, uint32_t n_blocks) {
  ModelFile& file = At(path);
  file.blocks.erase(file.blocks.lower_bound(n_blocks), file.blocks.end());
  file.n_blocks = n_blocks;
  file.truncated = generation_;
}

void ModelCluster::Extend(const std::string& path, uint32_t n_blocks) {
  At(path).n_blocks = n_blocks;
}

void ModelCluster::SetFile(const std::string& path, const std::string& bytes, int external_dir,
                           uint32_t mode) {
  if (!files_.contains({path, external_dir})) Create(path, external_dir);
  ModelFile& file = At(path, external_dir);
  file.bytes = bytes;
  file.mode = mode;
  file.changed = generation_;
}

void ModelCluster::SetCfsFile(const std::string& path, const std::string& bytes,
                              std::optional<int> segment, int64_t full_size) {
  SetFile(path, bytes);
  ModelFile& file = At(path);
  file.is_cfs = true;
  file.cfs_segment = segment;
  file.full_size = full_size;
}

void ModelCluster::SetDirectory(const std::string& path, int external_dir, uint32_t mode) {
  ModelFile& file = Create(path, external_dir);
  file.kind = ModelFile::Kind::kDirectory;
  file.mode = mode;
}

void ModelCluster::Drop(const std::string& path, int external_dir) {
  files_.erase({path, external_dir});
}

void ModelCluster::StorePlain(Backup& backup, const Key& key, const ModelFile& file) const {
  if (backup.mode() == BackupMode::kFull || file.changed == generation_) {
    backup.AddFile(key.first, file.bytes,
                   {.mode = file.mode,
                    .external_dir = key.second,
                    .is_cfs = file.is_cfs,
                    .cfs_segment = file.cfs_segment,
                    .full_size = file.full_size});
    return;
  }
  Entry entry;
  entry.path = key.first;
  entry.external_dir = key.second;
  entry.mode = file.mode;
  entry.is_cfs = file.is_cfs;
  entry.is_datafile = file.cfs_segment.has_value();
  entry.segment = file.cfs_segment.value_or(0);
  entry.db_oid = DatabaseOid(key.first);
  entry.n_blocks = -1;
  entry.size = file.bytes.empty() ? 0 : -1;
  entry.source_size = static_cast<int64_t>(file.bytes.size());
  entry.full_size = file.full_size != 0 ? file.full_size : entry.source_size;
  entry.crc = FileCrcOf(backup.rules().file_crc, file.bytes.data(), file.bytes.size());
  backup.AddEntry(std::move(entry));
}

void ModelCluster::StoreRelation(Backup& backup, const std::string& path,
                                 const ModelFile& file) const {
  const bool whole = backup.mode() == BackupMode::kFull || file.created == generation_;
  const bool delta = backup.mode() == BackupMode::kDelta;
  std::map<uint32_t, Page> sparse_pages;
  const auto page_of = [&](uint32_t block) -> std::optional<Page> {
    const auto found = file.blocks.find(block);
    const bool written = found != file.blocks.end();
    if (!written && file.sparse) return std::nullopt;
    // A DELTA takes new pages too: they have no LSN that could tell them unchanged.
    const bool zero = !written || found->second.fill == PageFill::kZero;
    const bool stored =
        whole || (written && found->second.generation == generation_) || (delta && zero);
    if (!stored) return std::nullopt;
    return ExpectedPage(path, file, block);
  };
  FileOptions options;
  options.mode = file.mode;
  const bool marked = backup.rules().truncation_markers && !whole && !delta &&
                      file.truncated == generation_ && file.n_blocks > 0;
  if (marked) options.truncation_marker = file.n_blocks;
  if (!file.sparse) {
    backup.AddRelation(path, file.segment, file.n_blocks, PageSource(page_of), options);
    return;
  }
  // Asked block by block, a terabyte of blocks that nobody wrote would take minutes.
  for (const auto& [block, write] : file.blocks) {
    if (const std::optional<Page> page = page_of(block)) sparse_pages.emplace(block, *page);
  }
  backup.AddRelation(path, file.segment, file.n_blocks, sparse_pages, options);
}

void ModelCluster::StoreIn(Backup& backup) const {
  for (const auto& [key, file] : files_) {
    switch (file.kind) {
      case ModelFile::Kind::kDirectory:
        backup.AddDirectory(key.first, file.mode, key.second);
        break;
      case ModelFile::Kind::kPlain:
        StorePlain(backup, key, file);
        break;
      case ModelFile::Kind::kRelation:
        StoreRelation(backup, key.first, file);
        break;
    }
  }
}

int64_t ModelCluster::Size(const ModelFile& file) {
  if (file.kind == ModelFile::Kind::kRelation) {
    return static_cast<int64_t>(file.n_blocks) * kBlockSize;
  }
  return static_cast<int64_t>(file.bytes.size());
}

Page ModelCluster::ExpectedPage(const std::string& path, const ModelFile& file,
                                uint32_t block) const {
  const auto found = file.blocks.find(block);
  if (found == file.blocks.end()) return Page{};
  const ModelFile::Write& write = found->second;
  const uint64_t lsn =
      kFirstPageLsn + static_cast<uint64_t>(write.generation) * kLsnBetweenGenerations;
  const uint32_t absolute = static_cast<uint32_t>(file.segment) * kBlocksPerSegment + block;
  return MakePage(write.seed.value_or(SeedOf(path, write.generation) + salt_), lsn, absolute,
                  write.fill);
}

std::string ModelCluster::ExpectedBytes(const std::string& path, const ModelFile& file) const {
  if (file.kind != ModelFile::Kind::kRelation) return file.bytes;
  std::string bytes;
  bytes.reserve(static_cast<size_t>(Size(file)));
  for (uint32_t block = 0; block < file.n_blocks; ++block) {
    const Page page = ExpectedPage(path, file, block);
    bytes.append(reinterpret_cast<const char*>(page.data()), page.size());
  }
  return bytes;
}

}  // namespace pbkfs::testsupport
