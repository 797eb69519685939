"""The reference is complete: every reason of the code stands in service/ERRORS.md and the other way round, and every
message, field, call and value of proto/pbkfs/v1 has a comment.

By hand: /usr/bin/python3 tests/reference/reference_test.py
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from google.protobuf import descriptor_pb2

ROOT = pathlib.Path(__file__).resolve().parents[2]
ERRORS = ROOT / "service" / "ERRORS.md"
PROTO = ROOT / "proto"
# Exit codes of pbkfs that are not 1, by the names of the codes.
EXIT_CODES = {"INVALID_ARGUMENT": 2, "OUT_OF_RANGE": 2, "NOT_FOUND": 3, "ALREADY_EXISTS": 4, "ABORTED": 4,
              "FAILED_PRECONDITION": 5, "UNAVAILABLE": 6, "DATA_LOSS": 7}

# Field numbers of FileDescriptorProto and DescriptorProto, which the paths of source locations are made of.
MESSAGE, ENUM, SERVICE, FIELD, VALUE, METHOD = 4, 5, 6, 2, 2, 2


def code_reasons():
    """{reason: name of its constant} of the code."""
    found = {}
    for path in source_files():
        for text in re.findall(r"namespace reason \{(.*?)\n\}", path.read_text(), re.DOTALL):
            found.update(reversed(pair) for pair in
                         re.findall(r'constexpr absl::string_view (k\w+)\s*=\s*"([A-Z_]+)";', text))
    return found


def documented_rows():
    """The cells of each row of the table."""
    for line in ERRORS.read_text().splitlines():
        if not line.startswith("|") or set(line) <= set("|- ") or line.startswith("| reason"):
            continue
        yield [cell.strip() for cell in line.strip("|").split("|")]


def source_files():
    for room in ("service", "fs"):
        for suffix in ("*.cc", "*.h"):
            yield from (ROOT / room).rglob(suffix)


class Errors(unittest.TestCase):
    def test_reasons_of_the_code_and_of_the_document_are_the_same(self):
        documented = [reason for row in documented_rows() for reason in row[0].split(", ")]
        self.assertEqual(sorted(set(documented)), sorted(documented), "a reason has two rows")
        known = code_reasons()
        self.assertGreater(len(known), 20, "the constants of fs/base/status.h were not found")
        self.assertEqual([], sorted(set(known) - set(documented)), "add a row to service/ERRORS.md")
        self.assertEqual([], sorted(set(documented) - set(known)), "the code has no such reason")

    def test_reasons_are_constants(self):
        for path in source_files():
            # A call with the reason spelt out would escape the comparison above.
            found = re.findall(r'(?:ReasonError|WithReason)\([^;]*?,\s*"([A-Z]+(?:_[A-Z]+)+)"', path.read_text())
            self.assertEqual([], found, f"{path}: use a constant of fs/base/status.h")

    def test_rows_are_whole_and_have_the_exit_codes_of_the_client(self):
        for row in documented_rows():
            with self.subTest(row=row[0]):
                self.assertEqual(5, len(row))
                self.assertTrue(all(row), "an empty cell")
                self.assertEqual(str(EXIT_CODES.get(row[1], 1)), row[2])


class Comments(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.files = self.compile()
        self.missing = []

    @staticmethod
    def compile():
        """The files of the API, with where their comments are."""
        names = sorted(str(path.relative_to(PROTO)) for path in (PROTO / "pbkfs" / "v1").glob("*.proto"))
        with tempfile.NamedTemporaryFile() as out:
            subprocess.run(["protoc", f"--proto_path={PROTO}", "--include_source_info",
                            f"--descriptor_set_out={out.name}", *names], check=True)
            return descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out.name).read_bytes()).file

    def check(self, comments, path, name):
        if not comments.get(tuple(path)):
            self.missing.append(name)

    def test_everything_has_a_comment(self):
        for file in self.files:
            comments = {tuple(place.path): place.leading_comments.strip() or place.trailing_comments.strip()
                        for place in file.source_code_info.location}
            for i, message in enumerate(file.message_type):
                self.check_message(file, comments, [MESSAGE, i], message)
            for i, enum in enumerate(file.enum_type):
                self.check(comments, [ENUM, i], enum.name)
                for j, value in enumerate(enum.value):
                    if not value.name.endswith("_UNSPECIFIED"):
                        self.check(comments, [ENUM, i, VALUE, j], value.name)
            for i, service in enumerate(file.service):
                self.check(comments, [SERVICE, i], service.name)
                for j, method in enumerate(service.method):
                    self.check(comments, [SERVICE, i, METHOD, j], f"{service.name}.{method.name}")
        self.assertEqual([], self.missing, "these have no comment in proto/pbkfs/v1")

    def check_message(self, file, comments, path, message):
        # Requests and answers are explained where the call is.
        if not re.search("(Request|Response)$", message.name):
            self.check(comments, path, message.name)
        for j, field in enumerate(message.field):
            # A field of a type that has a comment of its own is mostly said with its name.
            if not field.type_name.startswith(f".{file.package}."):
                self.check(comments, [*path, FIELD, j], f"{message.name}.{field.name}")


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
