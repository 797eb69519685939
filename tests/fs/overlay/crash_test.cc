// Random operations, each sequence cut at a random point by the death of the process or of the
// machine, also during recovery and more than once. What may be there afterwards is what FORMAT.md,
// "Recovery", allows:
//   death of the process    what was replied to, and the operation in flight as a whole or in part
//   death of the machine    names as of some moment since they were last durable; each byte of a
//   file as in some state
//                           of it since its last fsync
// PBKFS_CRASH_SEEDS=N runs N sequences, PBKFS_CRASH_SEED=S only sequence S: a failure prints the
// latter.
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/fs/overlay/overlay_fixture.h"
#include "tests/support/sim_io.h"

namespace pbkfs {
namespace {

using testsupport::Bytes;
using testsupport::MemoryTree;
using testsupport::Page;
using testsupport::Setting;
using testsupport::SimIo;

constexpr int64_t kB = kBlockSize;

std::shared_ptr<const MemoryTree> Lower() {
  static const auto tree =
      std::make_shared<const MemoryTree>(std::map<std::string, MemoryTree::Entry>{
          {"a", {S_IFREG | 0600, Page(1, 2 * kB)}},
          {"b", {S_IFREG | 0600, Page(2, kB + 700)}},
          {"c", {S_IFREG | 0600, ""}},
      });
  return tree;
}

// The states of one file's content, from the last one that was confirmed.
struct FileModel {
  std::vector<std::string> states;
  size_t last_name_change = 0;  // Index into Model::names.

  const std::string& content() const { return states.back(); }
  void Confirm() { states.erase(states.begin(), states.end() - 1); }

  // Whether recovered bytes can be explained by one state for each byte.
  bool Explains(const std::string& bytes) const {
    if (std::find(states.begin(), states.end(), bytes) != states.end()) return true;
    const auto [shortest, longest] = std::minmax_element(
        states.begin(), states.end(),
        [](const std::string& x, const std::string& y) { return x.size() < y.size(); });
    if (bytes.size() < shortest->size() || bytes.size() > longest->size()) return false;
    for (size_t i = 0; i < bytes.size(); ++i) {
      const bool explained =
          std::any_of(states.begin(), states.end(), [&](const std::string& state) {
            return i < state.size() ? state[i] == bytes[i] : bytes[i] == '\0';
          });
      if (!explained) return false;
    }
    return true;
  }
};

using Names = std::map<std::string, int>;  // Name -> number of the file.

struct Model {
  std::map<int, FileModel> files;
  std::vector<Names> names;  // Since the last moment that is known to be durable.
  int next_file = 0;

  int Add(const std::string& name, std::string content) {
    const int file = next_file++;
    files[file].states = {std::move(content)};
    Names next = names.empty() ? Names{} : names.back();
    next[name] = file;
    NamesAre(std::move(next), {file});
    return file;
  }
  void NamesAre(Names next, const std::vector<int>& changed) {
    names.push_back(std::move(next));
    for (const int file : changed) files[file].last_name_change = names.size() - 1;
  }
  void NamesDurable(size_t index) {
    names.erase(names.begin(), names.begin() + static_cast<int64_t>(index));
    for (auto& [number, file] : files) {
      file.last_name_change -= std::min(file.last_name_change, index);
    }
  }
};

class CrashRun {
 public:
  explicit CrashRun(uint64_t seed) : random_(seed), io_(seed * 7919 + 1) {
    for (const char* name : {"a", "b", "c"}) {
      model_.Add(name, Lower()->Lookup(kRootIno, name)->size == 0
                           ? ""
                           : Page(name[0] - 'a' + 1,
                                  static_cast<size_t>(Lower()->Lookup(kRootIno, name)->size)));
    }
    model_.NamesDurable(model_.names.size() - 1);
  }

  void Run() {
    const absl::Status mounted = Mount();
    ASSERT_TRUE(mounted.ok()) << mounted;
    const int rounds = 1 + static_cast<int>(random_() % 3);
    for (int round = 0; round < rounds; ++round) {
      io_.DieAfter(1 + random_() % 120);
      while (!io_.dead() && random_() % 60 != 0) {
        Step();
        if (testing::Test::HasFatalFailure()) return;
      }
      const bool machine = random_() % 2 == 0;
      Recover(machine);
      if (testing::Test::HasFailure()) return;
    }
  }
  const std::string& log() const { return log_; }

 private:
  absl::Status Mount() {
    DiffIdentity identity;
    identity.instance = "main";
    identity.backup_id = "TEST";
    identity.list_hash = Lower()->ListHash();
    PBKFS_ASSIGN_OR_RETURN(auto diff, DiffStore::Open(io_, "/diff", identity));
    OverlayOptions options;
    options.background_interval = std::chrono::hours(1);
    PBKFS_ASSIGN_OR_RETURN(overlay_, Overlay::Create(Lower(), std::move(diff), options));
    return absl::OkStatus();
  }

  void Note(const std::string& text) { log_ += text + "\n"; }

  uint64_t Ino(const std::string& name) {
    const auto found = overlay_->Lookup(kRootIno, name);
    return found.ok() ? found->ino : 0;
  }
  std::string RandomName() { return std::string(1, "abcdef"[random_() % 6]); }
  int64_t RandomOffset() {
    const int64_t block = static_cast<int64_t>(random_() % 4) * kB;
    return random_() % 2 == 0 ? block : block + static_cast<int64_t>(random_() % kB);
  }

  // Runs one operation. What the model shows after it is possible as soon as it began, and certain
  // once it was replied.
  void Step() {
    const std::string name = RandomName();
    const auto found = model_.names.back().find(name);
    if (found == model_.names.back().end()) return StepCreate(name);
    const int file = found->second;
    switch (random_() % 10) {
      case 0:
      case 1:
        return StepWrite(name, file);
      case 2:
        return StepTruncate(name, file);
      case 3:
        return StepPunch(name, file);
      case 4:
        return StepRename(name, file);
      case 5:
        if (random_() % 2 == 0) return StepUnlink(name, file);
        return StepWrite(name, file);
      case 6:
        return StepFsync(name, file);
      case 7:
        if (random_() % 2 == 0) return StepMaintain();
        return StepCheckpoint();
      default:
        if (random_() % 3 == 0) return StepFsyncDirectory();
        return StepWrite(name, file);
    }
  }

  // An operation may only fail because the process is dying.
  bool Done(const absl::Status& status) {
    Note(status.ok() ? "  ok" : "  " + status.ToString());
    EXPECT_TRUE(status.ok() || io_.dead()) << status;
    return status.ok();
  }

  void StepCreate(const std::string& name) {
    Note("create " + name);
    model_.Add(name, "");
    in_flight_names_ = true;
    NewNode node;
    node.mode = S_IFREG | 0600;
    in_flight_names_ = !Done(overlay_->Create(kRootIno, name, node, RequestId{}).status());
  }
  void ChangeContent(int file, std::string content) {
    model_.files[file].states.push_back(std::move(content));
    in_flight_file_ = file;
  }
  void Replied(bool ok) {
    if (ok) in_flight_file_ = -1;
  }
  void StepWrite(const std::string& name, int file) {
    const int64_t offset = RandomOffset();
    const std::string bytes = Page(static_cast<int>(random_() % 1000),
                                   random_() % 2 == 0 ? kB : 1 + random_() % (2 * kB));
    Note("write " + name + " at " + std::to_string(offset) + " of " + std::to_string(bytes.size()));
    std::string content = model_.files[file].content();
    const auto end = static_cast<size_t>(offset) + bytes.size();
    if (content.size() < end) content.resize(end, '\0');
    content.replace(static_cast<size_t>(offset), bytes.size(), bytes);
    ChangeContent(file, std::move(content));
    Replied(Done(overlay_->Write(Ino(name), offset, Bytes(bytes))));
  }
  void StepTruncate(const std::string& name, int file) {
    const int64_t size = random_() % 4 == 0 ? 0 : RandomOffset();
    Note("truncate " + name + " to " + std::to_string(size));
    std::string content = model_.files[file].content();
    content.resize(static_cast<size_t>(size), '\0');
    ChangeContent(file, std::move(content));
    AttributeChange change;
    change.size = size;
    Replied(Done(overlay_->SetAttributes(Ino(name), change).status()));
  }
  void StepPunch(const std::string& name, int file) {
    const int64_t offset = RandomOffset();
    const auto length = static_cast<int64_t>(1 + random_() % (2 * kB));
    Note("punch " + name + " at " + std::to_string(offset) + " of " + std::to_string(length));
    std::string content = model_.files[file].content();
    for (auto i = static_cast<size_t>(offset);
         i < std::min(content.size(), static_cast<size_t>(offset + length)); ++i) {
      content[i] = '\0';
    }
    ChangeContent(file, std::move(content));
    Replied(Done(
        overlay_->Allocate(Ino(name), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)));
  }
  void StepRename(const std::string& name, int file) {
    const std::string target = RandomName();
    Note("rename " + name + " to " + target);
    if (target == name) return;
    Names next = model_.names.back();
    const bool replaces = next.contains(target);
    const uint64_t replaced = replaces ? Ino(target) : 0;
    next.erase(name);
    next[target] = file;
    model_.NamesAre(next, {file});
    in_flight_names_ = true;
    const bool ok = Done(overlay_->Rename(kRootIno, name, kRootIno, target, 0, RequestId{}));
    in_flight_names_ = !ok;
    // The new name must not show less than what it was given.
    if (ok && replaces) model_.files[file].Confirm();
    if (ok && replaced != 0) overlay_->Forget(replaced);
  }
  void StepUnlink(const std::string& name, int file) {
    Note("unlink " + name);
    const uint64_t ino = Ino(name);
    Names next = model_.names.back();
    next.erase(name);
    model_.NamesAre(next, {file});
    in_flight_names_ = true;
    const bool ok = Done(overlay_->Unlink(kRootIno, name, RequestId{}));
    in_flight_names_ = !ok;
    if (ok) overlay_->Forget(ino);
  }
  void StepFsync(const std::string& name, int file) {
    Note("fsync " + name);
    if (!Done(overlay_->Fsync(Ino(name)))) return;
    model_.files[file].Confirm();
    model_.NamesDurable(model_.files[file].last_name_change);
  }
  void StepFsyncDirectory() {
    Note("fsync directory");
    if (Done(overlay_->FsyncDirectory())) model_.NamesDurable(model_.names.size() - 1);
  }

  void StepMaintain() {
    Note("maintain");
    overlay_->Maintain();
  }
  void StepCheckpoint() {
    Note("checkpoint");
    if (Done(overlay_->Checkpoint())) model_.NamesDurable(model_.names.size() - 1);
  }

  // Brings the diff back, through further deaths on the way, and checks what is there.
  void Recover(bool machine) {
    bool lost = false;
    for (int attempt = 0; attempt < 10; ++attempt) {
      overlay_.reset();
      if (machine) {
        Note("-- the machine stops");
        io_.Crash();
        lost = true;
      } else {
        Note("-- the process dies");
        io_.Revive();
      }
      if (attempt < 3 && random_() % 3 == 0) io_.DieAfter(1 + random_() % 25);
      const absl::Status mounted = Mount();
      if (!io_.dead()) {
        ASSERT_TRUE(mounted.ok()) << mounted;
        break;
      }
      machine = random_() % 2 == 0;
    }
    io_.Revive();
    if (!lost) OnlyTheLastStates();
    CheckAndAdopt();
  }

  // After the death of a process: what was replied to is there.
  void OnlyTheLastStates() {
    for (auto& [number, file] : model_.files) {
      const size_t keep = number == in_flight_file_ ? 2 : 1;
      if (file.states.size() > keep) {
        file.states.erase(file.states.begin(), file.states.end() - static_cast<int64_t>(keep));
      }
    }
    const size_t keep = in_flight_names_ ? 2 : 1;
    if (model_.names.size() > keep) model_.NamesDurable(model_.names.size() - keep);
  }

  void CheckAndAdopt() {
    std::vector<std::string> listed;
    ASSERT_TRUE(overlay_
                    ->ReadDirectory(kRootIno, kCookieDotDot,
                                    [&](const DirectoryEntry& entry) {
                                      listed.emplace_back(entry.name);
                                      return true;
                                    })
                    .ok());
    std::sort(listed.begin(), listed.end());
    std::map<std::string, std::string> contents;
    std::string summary;
    for (const std::string& name : listed) {
      const auto content = Read(name);
      ASSERT_TRUE(content.ok()) << name << ": " << content.status();
      contents[name] = *content;
      summary += " " + name + "(" + std::to_string(content->size()) + ")";
    }
    Note("-- recovered:" + summary);
    // The newest moment that explains the names and every file.
    for (size_t moment = model_.names.size(); moment-- > 0;) {
      if (Explains(model_.names[moment], contents)) return Adopt(model_.names[moment], contents);
    }
    FAIL() << "nothing that was allowed explains what is there:" << summary
           << Unexplained(contents);
  }

  // For each moment whose names fit, the first file and byte that do not.
  std::string Unexplained(const std::map<std::string, std::string>& contents) {
    std::string text;
    for (size_t moment = 0; moment < model_.names.size(); ++moment) {
      const Names& names = model_.names[moment];
      if (!std::equal(names.begin(), names.end(), contents.begin(), contents.end(),
                      [](const auto& x, const auto& y) { return x.first == y.first; })) {
        continue;
      }
      for (const auto& [name, file] : names) {
        const std::string& bytes = contents.at(name);
        if (model_.files[file].Explains(bytes)) continue;
        text += "\nmoment " + std::to_string(moment) + ": " + name + ", sizes allowed:";
        for (const std::string& state : model_.files[file].states) {
          text += " " + std::to_string(state.size());
        }
        for (size_t i = 0; i < bytes.size(); ++i) {
          FileModel one;
          for (const std::string& state : model_.files[file].states) {
            one.states.push_back(i < state.size() ? state.substr(i, 1) : std::string(1, '\0'));
          }
          if (one.Explains(bytes.substr(i, 1))) continue;
          text += ", byte " + std::to_string(i) + " is " + std::to_string(bytes[i]);
          break;
        }
      }
    }
    return text;
  }

  bool Explains(const Names& names, const std::map<std::string, std::string>& contents) {
    if (names.size() != contents.size()) return false;
    return std::all_of(contents.begin(), contents.end(), [&](const auto& entry) {
      const auto found = names.find(entry.first);
      return found != names.end() && model_.files[found->second].Explains(entry.second);
    });
  }

  // What was recovered is durable: it is what the next crash is measured against.
  void Adopt(const Names& names, const std::map<std::string, std::string>& contents) {
    Model next;
    next.names.push_back(names);
    next.next_file = model_.next_file;
    for (const auto& [name, file] : names) next.files[file].states = {contents.at(name)};
    model_ = std::move(next);
    in_flight_file_ = -1;
    in_flight_names_ = false;
  }

  absl::StatusOr<std::string> Read(const std::string& name) {
    const uint64_t ino = Ino(name);
    PBKFS_ASSIGN_OR_RETURN(const Attributes attributes, overlay_->GetAttributes(ino));
    std::string bytes(static_cast<size_t>(attributes.size), '?');
    PBKFS_ASSIGN_OR_RETURN(
        const size_t count,
        overlay_->Read(ino, 0,
                       absl::MakeSpan(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size())));
    bytes.resize(count);
    return bytes;
  }

  std::mt19937_64 random_;
  SimIo io_;
  std::unique_ptr<Overlay> overlay_;
  Model model_;
  int in_flight_file_ = -1;       // The file whose last state was not replied to.
  bool in_flight_names_ = false;  // The last names were not replied to.
  std::string log_;
};

TEST(CrashTest, WhatIsThereAfterACrashIsWhatTheRulesAllow) {
  const uint64_t only = Setting("PBKFS_CRASH_SEED", 0);
  const uint64_t first = only != 0 ? only : 1;
  const uint64_t last = only != 0 ? only : Setting("PBKFS_CRASH_SEEDS", 10000);
  for (uint64_t seed = first; seed <= last; ++seed) {
    CrashRun run(seed);
    run.Run();
    ASSERT_FALSE(HasFailure()) << run.log() << "replay: PBKFS_CRASH_SEED=" << seed
                               << " fs_overlay_test --gtest_filter=CrashTest.*";
  }
}

}  // namespace
}  // namespace pbkfs
