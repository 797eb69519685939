// backup_content.control, and the tree of names that is made of it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "fs/image/image_tree.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto list = pbkfs::FileList::Parse(std::string(reinterpret_cast<const char*>(data), size));
  if (!list.ok()) return 0;
  for (const pbkfs::FileEntry& entry : list->entries()) {
    if (list->Find(entry.path, entry.external_dir) != &entry) abort();
  }
  const auto tree = pbkfs::ImageTree::Build(*list);
  if (!tree.ok()) return 0;
  for (pbkfs::LowerIno ino = 2; ino <= tree->nodes().size(); ++ino) {
    const pbkfs::LowerNode node = tree->Describe(*tree->Find(ino));
    const auto found = tree->Lookup(node.parent, node.name);
    if (!found.has_value() || found->ino != ino) abort();
  }
  tree->ListHash();
  return 0;
}
