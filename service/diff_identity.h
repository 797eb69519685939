// What a diff over an image belongs to.
#ifndef PBKFS_SERVICE_DIFF_IDENTITY_H_
#define PBKFS_SERVICE_DIFF_IDENTITY_H_

#include <string>

#include "fs/diff/binding.h"
#include "fs/image/image.h"
#include "pbkfs/v1/mount.pb.h"

namespace pbkfs {

DiffIdentity DiffIdentityOf(const Image& image, const std::string& instance,
                            const v1::Owner& owner);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_DIFF_IDENTITY_H_
