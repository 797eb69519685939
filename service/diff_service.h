// pbkfs.v1.DiffService: lists, checks and deletes diffs.
#ifndef PBKFS_SERVICE_DIFF_SERVICE_H_
#define PBKFS_SERVICE_DIFF_SERVICE_H_

#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/base/io.h"
#include "fs/diff/check.h"
#include "pbkfs/v1/diff_service.grpc.pb.h"
#include "service/call_gate.h"
#include "service/image_registry.h"
#include "service/mount_manager.h"
#include "service/path_policy.h"

namespace pbkfs {

class DiffServiceImpl final : public v1::DiffService::Service {
 public:
  // All outlive the service.
  DiffServiceImpl(const PathPolicy& policy, const MountManager& manager, ImageRegistry& images,
                  Io& io, CallGate& gate);

  grpc::Status ListDiffs(grpc::ServerContext* context, const v1::ListDiffsRequest* request,
                         v1::ListDiffsResponse* response) override;
  grpc::Status CheckDiff(grpc::ServerContext* context, const v1::CheckDiffRequest* request,
                         v1::CheckDiffResponse* response) override;
  grpc::Status DeleteDiff(grpc::ServerContext* context, const v1::DeleteDiffRequest* request,
                          v1::DeleteDiffResponse* response) override;

 private:
  absl::Status DoListDiffs(const v1::ListDiffsRequest& request, const Caller& caller,
                           v1::ListDiffsResponse* response);
  absl::Status DoCheckDiff(const v1::CheckDiffRequest& request, const Caller& caller,
                           v1::CheckDiffResponse* response);
  absl::Status DoDeleteDiff(const v1::DeleteDiffRequest& request, const Caller& caller,
                            v1::DeleteDiffResponse* response);

  // The resolved path of the diff that a request names; DIFF_NOT_FOUND where there is nothing.
  absl::StatusOr<std::string> FindDiff(const std::string& path, const std::string& mount_id) const;
  // CALLER_NOT_ALLOWED where the diff is not his.
  absl::Status CheckOwner(const Caller& caller, const std::string& path) const;
  // DIFF_IN_USE where a mount of this daemon has it.
  absl::Status CheckUnused(const std::string& path) const;
  // Adds the paths of the directories in `directory`; what can't be listed is left out.
  void AddCandidates(const std::string& directory, std::set<std::string>* paths) const;
  // The image that the diff at `path` belongs to, in the catalog that the request names.
  absl::StatusOr<std::shared_ptr<const Image>> ImageOf(const v1::CheckDiffRequest& request,
                                                       const std::string& path);

  const PathPolicy& policy_;
  const MountManager& manager_;
  ImageRegistry& images_;
  Io& io_;
  CallGate& gate_;
};

}  // namespace pbkfs

#endif  // PBKFS_SERVICE_DIFF_SERVICE_H_
