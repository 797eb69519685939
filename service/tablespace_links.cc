#include "service/tablespace_links.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "fs/base/lower_tree.h"
#include "fs/base/status.h"

namespace pbkfs {
namespace {

constexpr char kLinkDirectory[] = "pg_tblspc";

// The directory of the mount that holds all tablespaces. The backup may have been taken from a
// mount, and hold one of that name. A diff belongs to its image, so that it finds its own again.
std::string HolderOf(const Image& image) {
  const std::string first = "pbkfs_tblspc";
  std::string name = first;
  for (int number = 2; image.Lookup(kRootIno, name).has_value(); ++number) {
    name = absl::StrCat(first, number);
  }
  return name;
}

// Where a link leads that is to lead into `target`. `roots` are sorted, the longest first.
std::string Turned(const Overlay::NamedLink& link, const std::vector<std::string>& roots,
                   const std::string& own_place, const std::string& target) {
  for (const std::string& root : roots) {
    absl::string_view rest = link.target;
    if (absl::ConsumePrefix(&rest, root) && absl::StartsWith(rest, "/")) {
      return absl::StrCat(target, rest);
    }
  }
  // Of a diff whose former target is not known.
  return absl::EndsWith(link.target, own_place) ? absl::StrCat(target, own_place) : link.target;
}

}  // namespace

absl::Status MakeTablespaceLinks(Overlay& overlay, const Image& image, const std::string& target) {
  const std::string holder = HolderOf(image);
  for (const uint32_t oid : image.info().tablespaces) {
    const std::string place = absl::StrCat(holder, "/", oid);
    PBKFS_RETURN_IF_ERROR(overlay.MoveBehindLink(absl::StrCat(kLinkDirectory, "/", oid), place,
                                                 absl::StrCat(target, "/", place)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Overlay::NamedLink>> TablespaceLinksToTurn(
    Overlay& overlay, const Image& image, const std::vector<std::string>& former,
    const std::string& target) {
  std::vector<Overlay::NamedLink> turned;
  const auto links = overlay.LinksIn(kLinkDirectory);
  // No server can use what is there instead.
  const int error = ErrnoOf(links.status());
  if (error == ENOENT || error == ENOTDIR) return turned;
  PBKFS_RETURN_IF_ERROR(links.status());
  std::vector<std::string> roots = former;
  roots.push_back(target);  // One may lie below the other.
  std::sort(roots.begin(), roots.end(),
            [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
  const std::string holder = HolderOf(image);
  for (const Overlay::NamedLink& link : *links) {
    const std::string own_place = absl::StrCat("/", holder, "/", link.name);
    std::string goal = Turned(link, roots, own_place, target);
    if (goal == link.target) continue;
    turned.push_back({absl::StrCat(kLinkDirectory, "/", link.name), std::move(goal)});
  }
  return turned;
}

}  // namespace pbkfs
