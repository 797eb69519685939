// Help texts.
#ifndef PBKFS_CLIENT_HELP_H_
#define PBKFS_CLIENT_HELP_H_

#include "absl/strings/string_view.h"

namespace pbkfs::client {

// Of one command, or of the program for "" and unknown commands.
absl::string_view HelpText(absl::string_view command);

}  // namespace pbkfs::client

#endif  // PBKFS_CLIENT_HELP_H_
