#include <stdlib.h>

#include <string>

#include "fs/base/status.h"
#include "gtest/gtest.h"
#include "service/mount_plan.h"

namespace pbkfs {
namespace {

v1::MountRequest Request() {
  v1::MountRequest request;
  request.set_store("/backup");
  request.set_instance("main");
  request.set_target("/srv/clones/My Clone_1/");
  return request;
}

absl::Status Normalized(const v1::MountRequest& request) {
  return NormalizeRequest(request, "/var/lib/pbkfs").status();
}

TEST(MountRequest, WhatIsLeftOutIsFilledIn) {
  unsetenv("PBKFS_MATERIALIZE_ON_READ");
  const absl::StatusOr<v1::MountRequest> normal = NormalizeRequest(Request(), "/var/lib/pbkfs");
  ASSERT_TRUE(normal.ok()) << normal.status();
  EXPECT_EQ(normal->mount_id(), "my-clone-1");
  EXPECT_EQ(normal->target(), "/srv/clones/My Clone_1");
  EXPECT_EQ(normal->diff_dir(), "/var/lib/pbkfs/diffs/my-clone-1");
  EXPECT_EQ(normal->backup_id(), "latest");
  EXPECT_EQ(normal->threads(), 8u);
  EXPECT_EQ(normal->catalog_lock(), v1::CATALOG_LOCK_AUTO);
  EXPECT_EQ(normal->tablespaces(), v1::TABLESPACE_MODE_DIRECTORY);
  EXPECT_FALSE(normal->materialize_on_read());
}

TEST(MountRequest, IdsAlwaysBeginWithALetter) {
  EXPECT_EQ(MountIdFromTarget("/mnt/A.b"), "a-b");
  EXPECT_EQ(MountIdFromTarget("/mnt/1"), "m1");
  EXPECT_EQ(MountIdFromTarget("/mnt/" + std::string(100, 'x')).size(), 63u);
}

TEST(MountRequest, WrongFieldsAreNamed) {
  const auto field_of = [](void (*change)(v1::MountRequest*)) {
    v1::MountRequest request = Request();
    change(&request);
    const absl::Status status = Normalized(request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(ReasonOf(status), "INVALID_FIELD");
    return FieldOf(status);
  };
  EXPECT_EQ(field_of([](v1::MountRequest* r) { r->clear_store(); }), "store");
  EXPECT_EQ(field_of([](v1::MountRequest* r) { r->clear_instance(); }), "instance");
  EXPECT_EQ(field_of([](v1::MountRequest* r) { r->set_instance("../x"); }), "instance");
  EXPECT_EQ(field_of([](v1::MountRequest* r) { r->set_backup_id("a/b"); }), "backup_id");
  EXPECT_EQ(field_of([](v1::MountRequest* r) { r->set_target("relative"); }), "target");
  EXPECT_EQ(field_of([](v1::MountRequest* r) { r->set_target("/a$(id)"); }), "target");
  EXPECT_EQ(field_of([](v1::MountRequest* r) { r->set_mount_id("Big"); }), "mount_id");
  EXPECT_EQ(field_of([](v1::MountRequest* r) { r->set_mount_id("1a"); }), "mount_id");
  EXPECT_EQ(field_of([](v1::MountRequest* r) { r->set_threads(100000); }), "threads");
  EXPECT_EQ(field_of([](v1::MountRequest* r) { r->set_diff_limit_bytes(-1); }), "diff_limit_bytes");
  EXPECT_EQ(field_of([](v1::MountRequest* r) { r->mutable_recovery()->set_action("promote"); }),
            "recovery");
  EXPECT_EQ(field_of([](v1::MountRequest* r) { (*r->mutable_settings())["a b"] = "1"; }),
            "settings");
}

TEST(MountRequest, WhatThisVersionCannotDoIsRefusedNotIgnored) {
  const auto refused = [](void (*change)(v1::MountRequest*)) {
    v1::MountRequest request = Request();
    change(&request);
    return Normalized(request);
  };
  for (const absl::Status& status :
       {refused([](v1::MountRequest* r) { r->set_restore(true); })}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    EXPECT_EQ(ReasonOf(status), "UNSUPPORTED_FORMAT");
  }
}

TEST(MountRequest, TheEnvironmentGivesTheDefaultOfMaterializeOnRead) {
  setenv("PBKFS_MATERIALIZE_ON_READ", "true", 1);
  EXPECT_TRUE(NormalizeRequest(Request(), "/var/lib/pbkfs")->materialize_on_read());
  v1::MountRequest request = Request();
  request.set_materialize_on_read(false);
  EXPECT_FALSE(NormalizeRequest(request, "/var/lib/pbkfs")->materialize_on_read());
  unsetenv("PBKFS_MATERIALIZE_ON_READ");
}

TEST(MountRequest, TheSameRequestIsRecognized) {
  const v1::MountRequest first = *NormalizeRequest(Request(), "/var/lib/pbkfs");
  EXPECT_TRUE(SameMount(first, first, "TOW2HK"));
  v1::MountRequest by_id = Request();
  by_id.set_backup_id("tow2hk");
  by_id = *NormalizeRequest(by_id, "/var/lib/pbkfs");
  EXPECT_TRUE(SameMount(first, by_id, "TOW2HK"));
  EXPECT_FALSE(SameMount(first, by_id, "TOW2H7"));
  v1::MountRequest other = first;
  other.set_read_only(true);
  EXPECT_FALSE(SameMount(first, other, "TOW2HK"));
  v1::MountRequest dry = first;
  dry.set_validate_only(true);
  EXPECT_TRUE(SameMount(first, dry, "TOW2HK"));
}

}  // namespace
}  // namespace pbkfs
