#include "service/tls_files.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "absl/strings/str_cat.h"
#include "fs/base/status.h"
#include "fs/base/unique_fd.h"
#include "service/limits.h"
#include "spdlog/spdlog.h"

namespace pbkfs {
namespace {

template <typename T, void (*kFree)(T*)>
struct Free {
  void operator()(T* object) const { kFree(object); }
};
using Certificate = std::unique_ptr<X509, Free<X509, X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY, EVP_PKEY_free>>;
using Bio = std::unique_ptr<BIO, Free<BIO, BIO_free_all>>;

absl::Status Wrong(absl::string_view field, const std::string& path, absl::string_view what) {
  ERR_clear_error();
  return WithField(ReasonError(absl::StatusCode::kInvalidArgument, reason::kInvalidField,
                               absl::StrCat("tls.", field, ": ", path, ": ", what)),
                   field);
}

absl::StatusOr<std::string> ReadPem(absl::string_view field, const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return Wrong(field, path, ErrnoError(errno, "open").message());
  std::string text(kMaxPemBytes + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t count = read(fd.get(), text.data() + size, text.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Wrong(field, path, ErrnoError(errno, "read").message());
    if (count == 0) break;
    size += static_cast<size_t>(count);
  }
  if (size > kMaxPemBytes) return Wrong(field, path, "is too long for a PEM file");
  text.resize(size);
  return text;
}

Bio Open(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

Certificate FirstCertificate(const std::string& pem) {
  return Certificate(PEM_read_bio_X509(Open(pem).get(), nullptr, nullptr, nullptr));
}

// Without asking anybody for a passphrase.
Key ReadKey(const std::string& pem) {
  const auto no_passphrase = [](char*, int, int, void*) { return 0; };
  return Key(PEM_read_bio_PrivateKey(Open(pem).get(), nullptr, no_passphrase, nullptr));
}

}  // namespace

absl::StatusOr<TlsPems> ReadTlsFiles(const v1::Tls& tls) {
  TlsPems pems;
  PBKFS_ASSIGN_OR_RETURN(pems.certificate, ReadPem("certificate_file", tls.certificate_file()));
  PBKFS_ASSIGN_OR_RETURN(pems.key, ReadPem("key_file", tls.key_file()));
  PBKFS_ASSIGN_OR_RETURN(pems.client_ca, ReadPem("client_ca_file", tls.client_ca_file()));
  const Certificate certificate = FirstCertificate(pems.certificate);
  if (certificate == nullptr) {
    return Wrong("certificate_file", tls.certificate_file(), "holds no certificate in PEM format");
  }
  const Key key = ReadKey(pems.key);
  if (key == nullptr) {
    return Wrong("key_file", tls.key_file(),
                 "holds no private key in PEM format, or one with a passphrase");
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return Wrong("key_file", tls.key_file(),
                 absl::StrCat("does not belong to the certificate in ", tls.certificate_file()));
  }
  if (FirstCertificate(pems.client_ca) == nullptr) {
    return Wrong("client_ca_file", tls.client_ca_file(), "holds no certificate in PEM format");
  }
  if (X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0) {
    spdlog::warn("the certificate in {} has expired: clients will refuse it",
                 tls.certificate_file());
  }
  ERR_clear_error();
  return pems;
}

}  // namespace pbkfs
