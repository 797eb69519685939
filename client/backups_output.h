// What `pbkfs backups` prints: for each instance a tree of chains.
#ifndef PBKFS_CLIENT_BACKUPS_OUTPUT_H_
#define PBKFS_CLIENT_BACKUPS_OUTPUT_H_

#include <string>

#include "client/table.h"
#include "pbkfs/v1/catalog.pb.h"

namespace pbkfs::client {

// Every backup is there once, below its parent, whatever the catalog claims; brothers and chains in
// the order of the answer. Why backups can't be mounted stands below the tree.
std::string BackupsText(const v1::ListBackupsResponse& response,
                        const Palette& palette = Palette());

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_BACKUPS_OUTPUT_H_
