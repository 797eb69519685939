#include "service/tls_files.h"

#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

namespace pbkfs {
namespace {

class TlsFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"a", "b"}) {
      const std::string make = absl::StrCat(
          "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj "
          "/CN=",
          name, " -keyout ", Path(absl::StrCat(name, ".key")), " -out ",
          Path(absl::StrCat(name, ".pem")), " 2>/dev/null");
      ASSERT_EQ(system(make.c_str()), 0) << "is the program openssl installed?";
    }
  }
  std::string Path(const std::string& name) { return directory_.path() + "/" + name; }
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(Path(name)) << text;
    return Path(name);
  }
  static v1::Tls Tls(const std::string& certificate, const std::string& key,
                     const std::string& ca) {
    v1::Tls tls;
    tls.set_certificate_file(certificate);
    tls.set_key_file(key);
    tls.set_client_ca_file(ca);
    return tls;
  }

  testsupport::TemporaryDirectory directory_;
};

TEST_F(TlsFilesTest, WhatFitsIsRead) {
  const absl::StatusOr<TlsPems> pems =
      ReadTlsFiles(Tls(Path("a.pem"), Path("a.key"), Path("b.pem")));
  ASSERT_TRUE(pems.ok()) << pems.status();
  EXPECT_THAT(pems->certificate, testing::HasSubstr("BEGIN CERTIFICATE"));
  EXPECT_THAT(pems->key, testing::HasSubstr("PRIVATE KEY"));
  EXPECT_NE(pems->client_ca, pems->certificate);
}

TEST_F(TlsFilesTest, WhatDoesNotFitIsNamed) {
  const std::string a = Path("a.pem");
  const std::string key = Path("a.key");
  const std::string junk = Write("junk", "no PEM");
  const std::string empty = Write("empty", "");
  const struct {
    v1::Tls tls;
    const char* field;
    const char* text;
  } table[] = {
      {Tls(Path("none"), key, a), "certificate_file", "No such file"},
      {Tls(directory_.path(), key, a), "certificate_file", "directory"},
      {Tls(junk, key, a), "certificate_file", "no certificate"},
      {Tls(empty, key, a), "certificate_file", "no certificate"},
      {Tls(key, key, a), "certificate_file", "no certificate"},
      {Tls(a, junk, a), "key_file", "no private key"},
      {Tls(a, Path("b.key"), a), "key_file", "does not belong"},
      {Tls(a, key, junk), "client_ca_file", "no certificate"},
      {Tls(a, key, Path("none")), "client_ca_file", "No such file"},
  };
  for (const auto& row : table) {
    const absl::Status status = ReadTlsFiles(row.tls).status();
    EXPECT_EQ(ReasonOf(status), "INVALID_FIELD") << status;
    EXPECT_EQ(FieldOf(status), row.field) << status;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(row.text));
  }
}

}  // namespace
}  // namespace pbkfs
