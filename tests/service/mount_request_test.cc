#include <stdlib.h>

#include <string>

#include "fs/base/status.h"
#include "gtest/gtest.h"
#include "service/config_defaults.h"
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

absl::StatusOr<v1::MountRequest> Normal(const v1::MountRequest& request) {
  return NormalizeRequest(request, "/var/lib/pbkfs", WithDefaults({}).defaults());
}

absl::Status Normalized(const v1::MountRequest& request) { return Normal(request).status(); }

TEST(MountRequest, WhatIsLeftOutIsFilledIn) {
  unsetenv("PBKFS_MATERIALIZE_ON_READ");
  const absl::StatusOr<v1::MountRequest> normal = Normal(Request());
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

TEST(MountRequest, WhatIsLeftOutComesFromTheConfiguration) {
  v1::MountDefaults defaults;
  defaults.set_materialize_on_read(true);
  defaults.set_catalog_lock(v1::CATALOG_LOCK_REQUIRED);
  defaults.set_threads(3);
  defaults.set_diff_limit_bytes(1 << 30);
  const v1::MountRequest normal = *NormalizeRequest(Request(), "/var/lib/pbkfs", defaults);
  EXPECT_TRUE(normal.materialize_on_read());
  EXPECT_EQ(normal.catalog_lock(), v1::CATALOG_LOCK_REQUIRED);
  EXPECT_EQ(normal.threads(), 3u);
  EXPECT_EQ(normal.diff_limit_bytes(), 1 << 30);

  v1::MountRequest request = Request();
  request.set_materialize_on_read(false);
  request.set_catalog_lock(v1::CATALOG_LOCK_OFF);
  request.set_threads(5);
  request.set_diff_limit_bytes(1 << 20);
  const v1::MountRequest said = *NormalizeRequest(request, "/var/lib/pbkfs", defaults);
  EXPECT_FALSE(said.materialize_on_read());
  EXPECT_EQ(said.catalog_lock(), v1::CATALOG_LOCK_OFF);
  EXPECT_EQ(said.threads(), 5u);
  EXPECT_EQ(said.diff_limit_bytes(), 1 << 20);
}

TEST(MountRequest, OtherDefaultsMakeNoOtherRequest) {
  const v1::MountRequest first = *Normal(Request());
  v1::MountDefaults changed;
  changed.set_materialize_on_read(true);
  changed.set_catalog_lock(v1::CATALOG_LOCK_OFF);
  changed.set_threads(3);
  changed.set_diff_limit_bytes(1 << 30);
  const v1::MountRequest again = *NormalizeRequest(Request(), "/var/lib/pbkfs", changed);
  EXPECT_NE(DifferenceOf(first, again, "TOW2HK"), "");
  EXPECT_EQ(DifferenceOf(first, WithDefaultsOf(first, Request(), again), "TOW2HK"), "");
  // What is said counts.
  for (const auto change :
       {+[](v1::MountRequest* r) { r->set_materialize_on_read(true); },
        +[](v1::MountRequest* r) { r->set_threads(3); },
        +[](v1::MountRequest* r) { r->set_diff_limit_bytes(7); },
        +[](v1::MountRequest* r) { r->set_catalog_lock(v1::CATALOG_LOCK_REQUIRED); }}) {
    v1::MountRequest original = Request();
    change(&original);
    EXPECT_NE(DifferenceOf(first, WithDefaultsOf(first, original, *Normal(original)), "TOW2HK"),
              "");
  }
}

TEST(MountRequest, TheSameRequestIsRecognized) {
  const v1::MountRequest first = *Normal(Request());
  EXPECT_EQ(DifferenceOf(first, first, "TOW2HK"), "");
  v1::MountRequest by_id = Request();
  by_id.set_backup_id("tow2hk");
  by_id = *Normal(by_id);
  EXPECT_EQ(DifferenceOf(first, by_id, "TOW2HK"), "");
  EXPECT_NE(DifferenceOf(first, by_id, "TOW2H7"), "");
  v1::MountRequest other = first;
  other.set_read_only(true);
  other.mutable_owner()->set_uid(0);
  EXPECT_EQ(DifferenceOf(first, other, "TOW2HK"), "owner, read_only");
  v1::MountRequest dry = first;
  dry.set_validate_only(true);
  EXPECT_EQ(DifferenceOf(first, dry, "TOW2HK"), "");
}

}  // namespace
}  // namespace pbkfs
