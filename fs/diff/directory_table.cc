#include "fs/diff/directory_table.h"

#include <algorithm>
#include <cassert>

#include "fs/diff/limits.h"

namespace pbkfs {

std::optional<DirectoryTable::Entry> DirectoryTable::Lookup(const LowerTree& lower, uint64_t parent,
                                                            absl::string_view name) const {
  if (const auto directory = directories_.find(parent); directory != directories_.end()) {
    const auto added = directory->second.added.find(name);
    if (added != directory->second.added.end()) return added->second;
    if (directory->second.hidden.contains(name)) return std::nullopt;
  }
  if (parent >= kFirstNewIno) return std::nullopt;
  const auto node = lower.Lookup(parent, name);
  if (!node.has_value()) return std::nullopt;
  return Entry{node->ino, kCookieLowerBase + node->ino};
}

void DirectoryTable::Add(uint64_t parent, absl::string_view name, const Entry& entry) {
  Directory& directory = directories_[parent];
  const bool inserted = directory.added.emplace(std::string(name), entry).second;
  assert(inserted);
  (void)inserted;
  directory.by_cookie.emplace(entry.cookie, std::string(name));
}

void DirectoryTable::Remove(const LowerTree& lower, uint64_t parent, absl::string_view name) {
  Directory& directory = directories_[parent];
  if (const auto added = directory.added.find(name); added != directory.added.end()) {
    directory.by_cookie.erase(added->second.cookie);
    directory.added.erase(added);
  }
  if (parent < kFirstNewIno && lower.Lookup(parent, name).has_value()) Hide(parent, name);
}

void DirectoryTable::Hide(uint64_t parent, absl::string_view name) {
  directories_[parent].hidden.emplace(name);
}

void DirectoryTable::List(const LowerTree& lower, uint64_t parent, uint64_t after,
                          const Visitor& visit) const {
  const auto found = directories_.find(parent);
  const Directory* directory = found == directories_.end() ? nullptr : &found->second;
  if (parent < kFirstNewIno && after < kCookieAddedBase) {
    const auto children = lower.Children(parent);
    const uint64_t after_ino = after > kCookieLowerBase ? after - kCookieLowerBase : 0;
    for (auto child = std::upper_bound(children.begin(), children.end(), after_ino);
         child != children.end(); ++child) {
      const auto node = lower.Node(*child);
      if (!node.has_value()) continue;
      if (directory != nullptr &&
          (directory->hidden.contains(node->name) || directory->added.contains(node->name))) {
        continue;
      }
      if (!visit(node->name, Entry{*child, kCookieLowerBase + *child})) return;
    }
  }
  if (directory == nullptr) return;
  for (auto next = directory->by_cookie.upper_bound(after); next != directory->by_cookie.end();
       ++next) {
    const auto added = directory->added.find(next->second);
    assert(added != directory->added.end());
    if (!visit(next->second, added->second)) return;
  }
}

bool DirectoryTable::Empty(const LowerTree& lower, uint64_t parent) const {
  bool empty = true;
  List(lower, parent, 0, [&empty](absl::string_view, const Entry&) {
    empty = false;
    return false;
  });
  return empty;
}

void DirectoryTable::VisitAdded(
    const std::function<void(uint64_t, absl::string_view, const Entry&)>& visit) const {
  for (const auto& [parent, directory] : directories_) {
    for (const auto& [name, entry] : directory.added) visit(parent, name, entry);
  }
}

void DirectoryTable::VisitHidden(
    const std::function<void(uint64_t, absl::string_view)>& visit) const {
  for (const auto& [parent, directory] : directories_) {
    for (const auto& name : directory.hidden) visit(parent, name);
  }
}

}  // namespace pbkfs
