#include "tests/support/staged_merge.h"

#include <cstdio>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "tests/support/fatal.h"
#include "tests/support/files.h"
#include "tests/support/synthetic_cluster.h"

namespace pbkfs::testsupport {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStageNames[kMergeStages] = {"marked",
                                                        "half-replaced",
                                                        "files-replaced",
                                                        "map-replaced",
                                                        "list-replaced",
                                                        "obsolete-deleted",
                                                        "merged",
                                                        "increments-deleting",
                                                        "increments-removed",
                                                        "renamed",
                                                        "finished"};

// Regular files below `root`, as paths relative to it, sorted.
std::set<std::string> FilesBelow(const std::string& root) {
  std::set<std::string> paths;
  if (!fs::exists(root)) return paths;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root)) {
    if (entry.is_regular_file()) paths.insert(entry.path().lexically_relative(root));
  }
  return paths;
}

void Rename(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) != 0) FatalErrno("rename", from);
}

}  // namespace

std::string_view MergeStageName(MergeStage stage) { return kStageNames[static_cast<int>(stage)]; }

std::optional<MergeStage> ParseMergeStage(std::string_view name) {
  for (int stage = 0; stage < kMergeStages; ++stage) {
    if (kStageNames[stage] == name) return static_cast<MergeStage>(stage);
  }
  return std::nullopt;
}

void SetControlKey(const std::string& backup_directory, const std::string& key,
                   const std::string& value) {
  const std::string path = backup_directory + "/backup.control";
  std::string text = "\n" + ReadWholeFile(path);
  const std::string line = value.empty() ? "" : key + " = " + value + "\n";
  const size_t start = text.find("\n" + key + " = ");
  if (start == std::string::npos) {
    text += line;
  } else {
    const size_t end = text.find('\n', start + 1);
    text.replace(start + 1, end - start, line);
  }
  ReplaceFile(path, std::string_view(text).substr(1), 0600);
}

StagedMerge::StagedMerge(std::string catalog, std::string instance, MergeOptions options)
    : instance_directory_(catalog + "/backups/" + instance),
      scratch_(catalog + ".merge"),
      instance_(std::move(instance)),
      options_(std::move(options)) {}

// The merged FULL as it will be, but for its status: start-time of the FULL, everything else
// DEST's.
void StagedMerge::Prepare(const ModelCluster& at_dest) {
  const std::map<std::string, std::string> dest_control =
      ParseControl(ReadWholeFile(Directory(dest()) + "/backup.control"));
  BackupOptions options;
  options.start_time = ParseBackupId(options_.full_id);
  options.start_lsn = ParseLsn(dest_control.at("start-lsn"));
  options.stop_lsn = ParseLsn(dest_control.at("stop-lsn"));
  options.end_time = ParseBackupId(dest()) + 10;
  options.merge_dest_id = dest();
  options.codec = options_.codec;
  options.header_map = options_.header_map;
  options.list_sorted_by_path = true;
  const auto external = dest_control.find("external-dirs");
  if (external != dest_control.end()) options.external_dirs = external->second;
  options.extra_control_lines = "merge-time = '" + FormatTime(ParseBackupId(dest()) + 3600) + "'\n";
  CatalogWriter writer(scratch_, instance_);
  const auto merged = writer.Begin(BackupMode::kFull, options);
  AddMinimalCluster(*merged);
  at_dest.StoreIn(*merged);
  merged->Finish("MERGING");
}

void StagedMerge::AdvanceTo(MergeStage stage, const ModelCluster& at_dest) {
  const std::string done_path = scratch_ + "/done";
  int done = std::stoi(ReadFileIfExists(done_path).value_or("-1"));
  if (done < 0) Prepare(at_dest);
  while (done < static_cast<int>(stage)) {
    Take(static_cast<MergeStage>(++done));
    ReplaceFile(done_path, std::to_string(done), 0600);
  }
}

void StagedMerge::ReplaceFiles(bool every_second_only) {
  const std::string merged = scratch_ + "/backups/" + instance_ + "/" + options_.full_id;
  bool second = false;
  for (const char* part : {"/database", "/external_directories"}) {
    for (const std::string& path : FilesBelow(merged + part)) {
      second = !second;
      if (every_second_only && second) continue;
      const std::string target = Directory(options_.full_id) + part + "/" + path;
      MakeDirectories(target.substr(0, target.rfind('/')), 0700);
      Rename(merged + part + "/" + path, target);
    }
  }
}

void StagedMerge::ReplaceList() {
  const std::string merged = scratch_ + "/backups/" + instance_ + "/" + options_.full_id;
  for (const char* name : {"/backup_content.control", "/backup.control"}) {
    Rename(merged + name, Directory(options_.full_id) + name);
  }
}

// A merge leaves files behind under entries of size 0, so these stay here too.
void StagedMerge::DeleteObsolete() {
  const std::string full = Directory(options_.full_id);
  const std::map<std::string, Entry> entries =
      ParseList(ReadWholeFile(full + "/backup_content.control"));
  for (const std::string& path : FilesBelow(full + "/database")) {
    if (!entries.contains(path)) fs::remove(full + "/database/" + path);
  }
}

void StagedMerge::DeleteHalfOf(const std::string& id) {
  bool second = false;
  for (const std::string& path : FilesBelow(Directory(id) + "/database")) {
    second = !second;
    if (second) fs::remove(Directory(id) + "/database/" + path);
  }
}

void StagedMerge::Take(MergeStage step) {
  const std::string full = Directory(options_.full_id);
  switch (step) {
    case MergeStage::kMarked:
      SetControlKey(full, "merge-dest-id", "'" + dest() + "'");
      SetControlKey(full, "status", "MERGING");
      for (const std::string& id : options_.increments) {
        SetControlKey(Directory(id), "status", "MERGING");
      }
      break;
    case MergeStage::kHalfReplaced:
      ReplaceFiles(true);
      break;
    case MergeStage::kFilesReplaced:
      ReplaceFiles(false);
      break;
    case MergeStage::kMapReplaced:
      Rename(scratch_ + "/backups/" + instance_ + "/" + options_.full_id + "/page_header_map",
             full + "/page_header_map");
      break;
    case MergeStage::kListReplaced:
      ReplaceList();
      break;
    case MergeStage::kObsoleteDeleted:
      DeleteObsolete();
      break;
    case MergeStage::kMerged:
      SetControlKey(full, "status", "MERGED");
      break;
    case MergeStage::kIncrementsDeleting:
      for (const std::string& id : options_.increments) {
        SetControlKey(Directory(id), "status", "DELETING");
        DeleteHalfOf(id);
      }
      break;
    case MergeStage::kIncrementsRemoved:
      for (const std::string& id : options_.increments) fs::remove_all(Directory(id));
      break;
    case MergeStage::kRenamed:
      Rename(full, Directory(dest()));
      break;
    case MergeStage::kFinished:
      SetControlKey(Directory(dest()), "merge-dest-id", "");
      SetControlKey(Directory(dest()), "start-time", "'" + FormatTime(ParseBackupId(dest())) + "'");
      SetControlKey(Directory(dest()), "status", "OK");
      break;
  }
}

}  // namespace pbkfs::testsupport
