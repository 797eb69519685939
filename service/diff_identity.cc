#include "service/diff_identity.h"

#include "fs/catalog/chain.h"

namespace pbkfs {

DiffIdentity DiffIdentityOf(const Image& image, const std::string& instance,
                            const v1::Owner& owner) {
  const BackupControl& control = image.chain().tip().control;
  DiffIdentity identity;
  identity.instance = instance;
  identity.system_identifier = image.info().system_identifier;
  identity.backup_id = image.chain().tip().id;
  identity.start_lsn = FormatLsn(control.start_lsn);
  identity.stop_lsn = FormatLsn(control.stop_lsn);
  identity.list_hash = image.ListHash();
  identity.owner_uid = owner.uid();
  identity.owner_gid = owner.gid();
  return identity;
}

}  // namespace pbkfs
