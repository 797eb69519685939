#include "service/metrics/status_page.h"

#include <string>

#include "gtest/gtest.h"
#include "service/metrics/limits.h"

namespace pbkfs {
namespace {

constexpr char kHostile[] =
    "</p><script>alert(1)</script><img src=x onerror='a()' \"\n\x01\xff&lt;";

v1::Mount* AddMount(StatusPageInput* input, const std::string& id) {
  v1::Mount* mount = input->mounts.add_mounts();
  mount->set_mount_id(id);
  mount->set_state(v1::MOUNT_STATE_ACTIVE);
  input->stats.add_mounts()->set_mount_id(id);
  return mount;
}

size_t Position(const std::string& page, const std::string& text) {
  const size_t at = page.find(text);
  EXPECT_NE(at, std::string::npos) << text << " is not in\n" << page;
  return at;
}

TEST(EscapeHtml, LeavesNothingThatAParserWouldActOn) {
  EXPECT_EQ(EscapeHtml("<a href=\"x\" b='y'>&amp;"),
            "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;amp;");
  EXPECT_EQ(EscapeHtml("a\nb\x7f\xff grün"), "a?b?? grün");
}

TEST(StatusPage, WhateverComesFromOutsideIsEscaped) {
  StatusPageInput input;
  v1::Mount* mount = AddMount(&input, kHostile);
  mount->set_instance(kHostile);
  mount->set_backup_id(kHostile);
  mount->set_target(kHostile);
  mount->set_state(v1::MOUNT_STATE_FAILED);
  mount->set_state_reason(kHostile);
  mount->add_warnings(kHostile);
  v1::FuseStats* fuse = input.stats.mutable_mounts(0)->mutable_fuse();
  fuse->set_inflight_requests(1);
  fuse->set_oldest_request_op(kHostile);
  input.not_ready.emplace_back(kHostile);
  input.stats.mutable_daemon()->set_version(kHostile);
  const std::string page = StatusPage(input);
  EXPECT_EQ(page.find("<script"), std::string::npos) << page;
  EXPECT_EQ(page.find("<img"), std::string::npos) << page;
  EXPECT_EQ(page.find("onerror='"), std::string::npos) << page;
  size_t count = 0;
  for (size_t at = page.find("&lt;script"); at != std::string::npos;
       at = page.find("&lt;script", at + 1)) {
    ++count;
  }
  EXPECT_EQ(count, 9u) << "one for each field that was set";
}

TEST(StatusPage, MountsInTroubleComeFirst) {
  StatusPageInput input;
  AddMount(&input, "alpha");
  AddMount(&input, "beta")->set_state(v1::MOUNT_STATE_FAILED);
  AddMount(&input, "gamma");
  AddMount(&input, "delta");
  AddMount(&input, "epsilon");
  input.stats.mutable_mounts(2)->mutable_page_errors()->set_checksum(1);
  (*input.stats.mutable_mounts(3)->mutable_fuse()->mutable_errors())["read/EIO"] = 2;
  input.stats.mutable_mounts(4)->mutable_fuse()->mutable_oldest_request_age()->set_seconds(
      kHungRequestSeconds);
  (*input.stats.mutable_mounts(0)->mutable_fuse()->mutable_errors())["lookup/ENOENT"] = 2;
  const std::string page = StatusPage(input);
  for (const char* id : {"<h2>beta<", "<h2>gamma<", "<h2>delta<", "<h2>epsilon<"}) {
    EXPECT_LT(Position(page, id), Position(page, "<h2>alpha<"));
  }
}

TEST(StatusPage, ThousandsOfMountsStayOnePage) {
  StatusPageInput input;
  for (size_t i = 0; i < kMaxPageMounts + 7; ++i) AddMount(&input, "m" + std::to_string(i));
  Position(StatusPage(input), "and 7 more mounts");
}

TEST(StatusPage, SaysWhatIsWhere) {
  StatusPageInput input;
  AddMount(&input, "m");
  v1::MountStats* stats = input.stats.mutable_mounts(0);
  stats->mutable_io()->set_read_bytes_backup(3 << 20);
  stats->mutable_io()->set_read_bytes_diff(1 << 20);
  stats->mutable_io()->set_written_bytes(2048);
  stats->mutable_diff()->set_diff_bytes(int64_t{5} << 30);
  stats->mutable_diff()->set_fs_free_bytes(int64_t{7} << 40);
  stats->mutable_backup_age()->set_seconds(90000);
  stats->mutable_fuse();
  const std::string page = StatusPage(input);
  Position(page, "<i class=b style=\"width:75.00%\">");
  Position(page, "<dt>read</dt><dd>4.0 MiB</dd>");
  Position(page, "<dt>written</dt><dd>2.0 KiB</dd>");
  Position(page, "<dt>diff</dt><dd>5.0 GiB</dd>");
  Position(page, "<dt>free for the diff</dt><dd>7.0 TiB</dd>");
  Position(page, "<dt>backup age</dt><dd>1 d 1 h</dd>");
  Position(page, "<dt>oldest request</dt><dd>none</dd>");
}

}  // namespace
}  // namespace pbkfs
