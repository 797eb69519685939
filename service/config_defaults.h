// What is in force where the configuration says nothing.
#ifndef PBKFS_SERVICE_CONFIG_DEFAULTS_H_
#define PBKFS_SERVICE_CONFIG_DEFAULTS_H_

#include "pbkfs/v1/config.pb.h"

namespace pbkfs {

// `config` with what is not said filled in. An empty metrics_address stays empty: nobody asked for
// the default one, so that a port that is taken is no error.
v1::DaemonConfig WithDefaults(v1::DaemonConfig config);

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_CONFIG_DEFAULTS_H_
