#include "tests/fs/overlay/crash_model.h"

#include <sys/stat.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"

namespace pbkfs::testsupport {

absl::StatusOr<std::string> ReadInode(Overlay& overlay, uint64_t ino) {
  PBKFS_ASSIGN_OR_RETURN(const Attributes attributes, overlay.GetAttributes(ino));
  std::string bytes(static_cast<size_t>(attributes.size), '?');
  PBKFS_ASSIGN_OR_RETURN(
      const size_t count,
      overlay.Read(ino, 0, absl::MakeSpan(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size())));
  bytes.resize(count);
  return bytes;
}

namespace {

absl::Status ReadBelow(Overlay& overlay, uint64_t directory, const std::string& prefix,
                       CrashTree* tree) {
  std::vector<std::pair<std::string, uint64_t>> entries;
  PBKFS_RETURN_IF_ERROR(
      overlay.ReadDirectory(directory, kCookieDotDot, [&](const DirectoryEntry& entry) {
        entries.emplace_back(std::string(entry.name), entry.ino);
        return true;
      }));
  for (const auto& [name, ino] : entries) {
    PBKFS_ASSIGN_OR_RETURN(const Attributes attributes, overlay.Lookup(directory, name));
    if (attributes.ino != ino) return absl::InternalError(absl::StrCat(name, " is listed wrongly"));
    const std::string path = absl::StrCat(prefix, name);
    CrashNode& node = (*tree)[path];
    node = {ino, attributes.mode, attributes.uid, attributes.nlink, ""};
    if (S_ISDIR(attributes.mode)) {
      PBKFS_RETURN_IF_ERROR(ReadBelow(overlay, ino, path + "/", tree));
    } else if (S_ISLNK(attributes.mode)) {
      PBKFS_ASSIGN_OR_RETURN(node.content, overlay.ReadLink(ino));
    } else {
      PBKFS_ASSIGN_OR_RETURN(node.content, ReadInode(overlay, ino));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CrashTree> ReadTree(Overlay& overlay) {
  CrashTree tree;
  PBKFS_RETURN_IF_ERROR(ReadBelow(overlay, kRootIno, "", &tree));
  return tree;
}

bool CrashModel::Name::IsDirectory() const { return S_ISDIR(mode); }
bool CrashModel::Name::IsFile() const { return S_ISREG(mode); }

void CrashModel::Adopt(const CrashTree& tree) {
  std::map<uint64_t, int> objects;
  Names names;
  files_.clear();
  for (const auto& [path, node] : tree) {
    const auto [object, is_new] = objects.try_emplace(node.ino, next_object_);
    if (is_new) ++next_object_;
    names[path] = {object->second, node.mode, node.uid, S_ISLNK(node.mode) ? node.content : ""};
    if (S_ISREG(node.mode)) files_[object->second] = {node.content};
  }
  names_ = {std::move(names)};
  last_change_.clear();
  Replied();
}

std::vector<std::string> CrashModel::Directories() const {
  std::vector<std::string> paths = {""};
  for (const auto& [path, name] : names()) {
    if (name.IsDirectory()) paths.push_back(path);
  }
  return paths;
}

bool CrashModel::IsEmptyDirectory(const std::string& path) const {
  const auto next = names().lower_bound(path + "/");
  return next == names().end() || next->first.rfind(path + "/", 0) != 0;
}

void CrashModel::NamesAre(Names names, const std::vector<int>& changed) {
  names_.push_back(std::move(names));
  last_change_before_ = last_change_;
  for (const int object : changed) last_change_[object] = names_.size() - 1;
  names_in_flight_ = true;
}

void CrashModel::NamesDidNotChange() {
  names_.pop_back();
  last_change_ = last_change_before_;
  names_in_flight_ = false;
}

void CrashModel::ContentIs(int object, std::string content) {
  files_[object].push_back(std::move(content));
  if (files_[object].size() > 1) file_in_flight_ = object;
}

void CrashModel::Fsynced(int object) {
  ContentConfirmed(object);
  if (const auto change = last_change_.find(object); change != last_change_.end()) {
    DurableUpTo(change->second);
  }
}

void CrashModel::ContentConfirmed(int object) {
  States& states = files_.at(object);
  states.erase(states.begin(), states.end() - 1);
}

void CrashModel::NamesDurable() { DurableUpTo(names_.size() - 1); }

void CrashModel::AllDurable() {
  NamesDurable();
  for (const auto& [object, states] : files_) ContentConfirmed(object);
}

void CrashModel::DurableUpTo(size_t moment) {
  names_.erase(names_.begin(), names_.begin() + static_cast<int64_t>(moment));
  for (auto& [object, change] : last_change_) change -= std::min(change, moment);
}

void CrashModel::OnlyTheLastStates() {
  for (auto& [object, states] : files_) {
    const size_t keep = object == file_in_flight_ ? 2 : 1;
    if (states.size() > keep) {
      states.erase(states.begin(), states.end() - static_cast<int64_t>(keep));
    }
  }
  const size_t keep = names_in_flight_ ? 2 : 1;
  if (names_.size() > keep) DurableUpTo(names_.size() - keep);
}

// A byte is as in some state; or zero, where a file that was shorter grew and only its size
// survived.
bool CrashModel::ExplainsByte(const States& states, const std::string& bytes, size_t i) {
  bool shorter = false;
  for (const std::string& state : states) {
    if (i >= state.size()) {
      shorter = true;
    } else if (state[i] == bytes[i] || (shorter && bytes[i] == '\0')) {
      return true;
    }
  }
  return false;
}

// Whether one state for each byte explains `bytes`.
bool CrashModel::Explains(const States& states, const std::string& bytes) {
  if (std::find(states.begin(), states.end(), bytes) != states.end()) return true;
  const auto [shortest, longest] = std::minmax_element(
      states.begin(), states.end(),
      [](const std::string& x, const std::string& y) { return x.size() < y.size(); });
  if (bytes.size() < shortest->size() || bytes.size() > longest->size()) return false;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (!ExplainsByte(states, bytes, i)) return false;
  }
  return true;
}

// Why `names` as a whole do not explain `tree`; "" where they do.
std::string CrashModel::Contradiction(const Names& names, const CrashTree& tree) const {
  for (const auto& [path, node] : tree) {
    if (!names.contains(path)) return path + " is there";
  }
  std::map<int, uint64_t> inos;
  std::map<int, uint32_t> links;
  for (const auto& [path, name] : names) ++links[name.object];
  for (const auto& [path, name] : names) {
    const auto found = tree.find(path);
    if (found == tree.end()) return path + " is missing";
    const CrashNode& node = found->second;
    if (node.mode != name.mode || node.uid != name.uid) return path + ": its attributes";
    if (inos.try_emplace(name.object, node.ino).first->second != node.ino) {
      return path + " is not the same file as its other names";
    }
    if (node.nlink != links[name.object]) return absl::StrCat(path, ": link count ", node.nlink);
    if (S_ISLNK(name.mode) && node.content != name.symlink) return path + ": its target";
    if (!name.IsFile()) continue;
    const States& states = files_.at(name.object);
    if (Explains(states, node.content)) continue;
    std::string text =
        absl::StrCat(path, ": its ", node.content.size(), " bytes; sizes since fsync:");
    for (const std::string& state : states) absl::StrAppend(&text, " ", state.size());
    for (size_t i = 0; i < node.content.size(); ++i) {
      if (ExplainsByte(states, node.content, i)) continue;
      return absl::StrCat(text, ", byte ", i, " is ", static_cast<int>(node.content[i]));
    }
    return text;
  }
  return "";
}

bool CrashModel::Explains(const CrashTree& tree, std::string* contradiction) const {
  contradiction->clear();
  for (size_t moment = names_.size(); moment-- > 0;) {
    const std::string text = Contradiction(names_[moment], tree);
    if (text.empty()) return true;
    absl::StrAppend(contradiction, "\n  moment ", moment, ": ", text);
  }
  return false;
}

}  // namespace pbkfs::testsupport
