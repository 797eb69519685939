#include "fs/catalog/chain_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/catalog/limits.h"

namespace pbkfs {
namespace {

absl::Status Corrupt(absl::string_view what) {
  return ReasonError(absl::StatusCode::kDataLoss, reason::kCatalogCorrupt, what);
}

}  // namespace

FileHistory ChainFiles::HistoryOf(const FileEntry& entry) const {
  FileHistory history;
  history.tip = &entry;
  const size_t index = IndexOf(entry);
  assert(index < first_part_.size());
  for (uint32_t part = first_part_[index]; part != kNone; part = parts_[part].next) {
    history.parts.push_back(&parts_[part]);
  }
  const auto problem = problems_.find(static_cast<uint32_t>(index));
  if (problem != problems_.end()) history.problem = problem->second;
  return history;
}

size_t ChainFilesBuilder::Hash::operator()(const FileEntry& entry) const {
  return absl::HashOf(entry.path, entry.external_dir);
}

bool ChainFilesBuilder::Equal::operator()(uint32_t a, const FileEntry& b) const {
  const FileEntry& entry = list->entries()[a];
  return entry.external_dir == b.external_dir && entry.path == b.path;
}

ChainFilesBuilder::ChainFilesBuilder(FileList tip, size_t members)
    : by_path_(0, Hash{&files_.list_}, Equal{&files_.list_}),
      member_(static_cast<uint32_t>(members - 1)) {
  files_.list_ = std::move(tip);
  const std::vector<FileEntry>& entries = files_.list_.entries();
  files_.first_part_.assign(entries.size(), ChainFiles::kNone);
  states_.resize(entries.size());
  by_path_.reserve(entries.size());
  for (uint32_t i = 0; i < entries.size(); ++i) {
    by_path_.insert(i);
    if (!S_ISREG(entries[i].mode)) continue;
    states_[i].open = true;
    states_[i].limit = entries[i].n_blocks >= 0 ? entries[i].n_blocks : kSegmentBlocks;
    ++open_count_;
    Take(i, entries[i]);
  }
  NextMember();
}

absl::Status ChainFilesBuilder::Add(const FileEntry& entry) {
  const auto found = by_path_.find(entry);
  if (found == by_path_.end()) return absl::OkStatus();  // Dropped since then.
  State& state = states_[*found];
  if (state.seen_in == member_) {
    return Corrupt(absl::StrCat("'", entry.path, "' is listed twice"));
  }
  state.seen_in = member_;
  if (!state.open) return absl::OkStatus();
  const FileEntry& tip = files_.list_.entries()[*found];
  if (!tip.IsPageStream() && (!S_ISREG(entry.mode) || entry.IsPageStream())) {
    return Corrupt(absl::StrCat("'", entry.path,
                                "' is listed as a plain file by a newer backup of the chain, and "
                                "as something else here"));
  }
  Take(*found, entry);
  return absl::OkStatus();
}

void ChainFilesBuilder::Take(uint32_t index, const FileEntry& entry) {
  State& state = states_[index];
  // Empty here: whatever older members store was gone at this time.
  if (entry.size == 0) return Close(state, index);
  const bool is_stream = files_.list_.entries()[index].IsPageStream();
  if (is_stream && !entry.IsPageStream()) {
    return Close(state, index, "a member of the chain lists it as a plain file");
  }
  state.is_unchanged = entry.size < 0;
  if (entry.size > 0) AddPart(index, entry);
  if (!is_stream && entry.size > 0) return Close(state, index);
  // The tip's own length is in `limit` from the start; others bind what is older than they are.
  if (entry.n_blocks >= 0) state.limit = std::min(state.limit, entry.n_blocks);
}

void ChainFilesBuilder::AddPart(uint32_t index, const FileEntry& entry) {
  State& state = states_[index];
  const auto part = static_cast<uint32_t>(files_.parts_.size());
  StoredPart& added = files_.parts_.emplace_back();
  added.entry = entry;
  added.entry.path = files_.list_.entries()[index].path;
  added.member = member_;
  added.limit = state.limit;
  added.next = ChainFiles::kNone;
  (state.last_part == ChainFiles::kNone ? files_.first_part_[index]
                                        : files_.parts_[state.last_part].next) = part;
  state.last_part = part;
}

void ChainFilesBuilder::Close(State& state, uint32_t index, absl::string_view problem) {
  state.open = false;
  --open_count_;
  if (!problem.empty()) files_.problems_[index] = std::string(problem);
}

absl::Status ChainFilesBuilder::EndMember() {
  const std::vector<FileEntry>& entries = files_.list_.entries();
  for (uint32_t i = 0; i < states_.size(); ++i) {
    State& state = states_[i];
    if (!state.open || state.seen_in == member_) continue;
    if (!entries[i].IsPageStream()) {
      return Corrupt(
          absl::StrCat("'", entries[i].path,
                       "' is listed as unchanged by its child, but is not here; validate "
                       "the backup with pg_probackup"));
    }
    // What is not in its parent's list is stored completely; so nothing older can show. But what
    // is unchanged must be there.
    Close(
        state, i,
        state.is_unchanged ? "it is listed as unchanged since a backup that does not have it" : "");
  }
  NextMember();
  return absl::OkStatus();
}

void ChainFilesBuilder::NextMember() {
  // Most files are found at last in the FULL, all at once: room for exactly those.
  if (member_ == 1) files_.parts_.reserve(files_.parts_.size() + open_count_);
  --member_;  // Of the FULL, a number that no member has.
}

ChainFiles ChainFilesBuilder::Finish() {
  assert(member_ == ChainFiles::kNone);
  files_.parts_.shrink_to_fit();
  return std::move(files_);
}

}  // namespace pbkfs
