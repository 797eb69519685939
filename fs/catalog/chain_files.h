// The files of the backup at the tip of a chain, and for each of them which members store something
// of it: all that reading needs of the lists of the members.
//
// The tip's list is kept whole. Of the others only what they store of the tip's files is, since a
// chain of thirty members with a hundred thousand files each has three million lines, nearly all of
// which say "unchanged". Immutable once it is built; safe from any thread.
#ifndef PBKFS_FS_CATALOG_CHAIN_FILES_H_
#define PBKFS_FS_CATALOG_CHAIN_FILES_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "fs/catalog/file_list.h"

namespace pbkfs {

// What one member stores of a file: its entry has a size above 0.
struct StoredPart {
  FileEntry entry;      // Its path is the text of the tip's entry.
  uint32_t member = 0;  // Index in Chain::members.
  // Of a page stream: blocks from here on are not to be seen, because the tip's file is that long,
  // or because a member that is newer than this one knew the file to be that long (format document,
  // section 7.2).
  int32_t limit = 0;
  uint32_t next = 0;  // In ChainFiles; the next older part of the same file.
};

// One file through the chain.
struct FileHistory {
  const FileEntry* tip = nullptr;
  std::vector<const StoredPart*>
      parts;                  // Newest first. A whole-file copy has one, or none if empty.
  absl::string_view problem;  // Why the file can't be read; "" where it can.
};

class ChainFiles {
 public:
  // The list of the tip. Its entries are the files.
  const FileList& list() const { return list_; }
  // Of an entry of list().
  FileHistory HistoryOf(const FileEntry& entry) const;

 private:
  friend class ChainFilesBuilder;
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

  size_t IndexOf(const FileEntry& entry) const {
    return static_cast<size_t>(&entry - list_.entries().data());
  }

  FileList list_;
  std::vector<uint32_t> first_part_;  // Of each entry of list_, or kNone.
  std::vector<StoredPart> parts_;
  absl::flat_hash_map<uint32_t, std::string> problems_;  // By index of the entry.
};

// Takes the lists of a chain, newest first.
class ChainFilesBuilder {
 public:
  // `tip` is finished, and the list of the last of `members` members.
  ChainFilesBuilder(FileList tip, size_t members);
  ChainFilesBuilder(const ChainFilesBuilder&) = delete;
  ChainFilesBuilder& operator=(const ChainFilesBuilder&) = delete;

  // The entries of the next older member, in any order, and their end. DATA_LOSS (CATALOG_CORRUPT)
  // for an entry that is listed twice, and for a whole-file copy that this member should have.
  absl::Status Add(const FileEntry& entry);
  absl::Status EndMember();
  // After the FULL.
  ChainFiles Finish();

 private:
  // How far the search for what a file is made of has come.
  struct State {
    int32_t limit = 0;
    uint32_t last_part = ChainFiles::kNone;
    uint32_t seen_in = ChainFiles::kNone;  // The last member that lists it.
    bool open = false;                     // Older members may store something of it.
    bool is_unchanged = false;             // The last member says: as in the parent.
  };
  // Finds indexes of entries by path and directory.
  struct Hash {
    using is_transparent = void;
    const FileList* list;
    size_t operator()(uint32_t index) const { return (*this)(list->entries()[index]); }
    size_t operator()(const FileEntry& entry) const;
  };
  struct Equal {
    using is_transparent = void;
    const FileList* list;
    bool operator()(uint32_t a, uint32_t b) const { return a == b; }
    bool operator()(uint32_t a, const FileEntry& b) const;
  };

  void NextMember();
  void Take(uint32_t index, const FileEntry& entry);
  void AddPart(uint32_t index, const FileEntry& entry);
  void Close(State& state, uint32_t index, absl::string_view problem = "");

  ChainFiles files_;
  std::vector<State> states_;
  absl::flat_hash_set<uint32_t, Hash, Equal> by_path_;
  uint32_t member_;
  size_t open_count_ = 0;
};

}  // namespace pbkfs

#endif  // PBKFS_FS_CATALOG_CHAIN_FILES_H_
