// Tablespaces behind symbolic links (TABLESPACE_MODE_SYMLINK): directories of the mount outside of
// pg_tblspc, and links to them in pg_tblspc, for servers that refuse directories there.
#ifndef PBKFS_SERVICE_TABLESPACE_LINKS_H_
#define PBKFS_SERVICE_TABLESPACE_LINKS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/image/image.h"
#include "fs/overlay/overlay.h"

namespace pbkfs {

// Puts every tablespace of `image` behind a link into the PGDATA at `target`, as the server sees
// it. For an overlay in which nothing was moved yet.
absl::Status MakeTablespaceLinks(Overlay& overlay, const Image& image, const std::string& target);

// The paths of the links in pg_tblspc that lead into the PGDATA at one of the `former` targets of
// the diff, whoever made them, and where they are to lead in the one at `target`: where they do
// now, something else may be mounted by then.
absl::StatusOr<std::vector<Overlay::NamedLink>> TablespaceLinksToTurn(
    Overlay& overlay, const Image& image, const std::vector<std::string>& former,
    const std::string& target);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_TABLESPACE_LINKS_H_
