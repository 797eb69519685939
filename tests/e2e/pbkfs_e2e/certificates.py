"""Certificates made by the openssl program."""

import pathlib
import subprocess


class Authority:
    """Signs certificates; everything lies in `directory`, which every user can enter."""

    def __init__(self, directory, name):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(exist_ok=True)
        self.name = name
        self._openssl("req", "-x509", *self._new_key(name), "-days", "2", "-subj", f"/CN={name}", "-out", self.ca)

    @property
    def ca(self):
        return self.directory / f"{self.name}.pem"

    def issue(self, name, *, alternative="DNS:localhost,IP:127.0.0.1", days=2, common_name=None):
        """(certificate, key) of `name`; negative days make one that has expired."""
        certificate, request = self.directory / f"{name}.pem", self.directory / f"{name}.csr"
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternative}\n" if alternative else "basicConstraints=CA:FALSE\n")
        subject = name if common_name is None else common_name
        self._openssl("req", *self._new_key(name), "-subj", f"/CN={subject}" if subject else "/O=x", "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key(self.name),
                      "-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", certificate)
        return certificate, self._key(name)

    def _key(self, name):
        return self.directory / f"{name}.key"

    def _new_key(self, name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self._key(name)]

    @staticmethod
    def _openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True)
