"""A tree of files in memory, and random operations that are done to it and to a real directory alike."""

import os
import pickle
import stat

BLOCK = 8192
MAX_FILE_BYTES = 40 * BLOCK
MAX_ENTRIES = 400


class TreeModel:
    """Paths, relative to the root, to the bytes of files; directories stand with None."""

    def __init__(self):
        self.entries = {}
        self.rng = None

    @classmethod
    def read(cls, root):
        model = cls()
        for directory, names, files in os.walk(root):
            for name in names:
                model.entries[os.path.relpath(os.path.join(directory, name), root)] = None
            for name in files:
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    model.entries[os.path.relpath(path, root)] = bytearray(file.read())
        return model

    # Both directions are ours: the child that runs the operations hands its model back to its parent.
    def dump(self):
        return pickle.dumps(self)

    @staticmethod
    def load(data):
        return pickle.loads(data)

    def files(self):
        return [path for path, content in self.entries.items() if content is not None]

    def directories(self):
        return ["", *(path for path, content in self.entries.items() if content is None)]

    def below(self, directory):
        return [path for path in self.entries if path.startswith(directory + "/")]

    def differences(self, root):
        """What the real directory shows otherwise."""
        real = TreeModel.read(root).entries
        result = [f"{path}: missing" for path in sorted(self.entries.keys() - real.keys())]
        result += [f"{path}: should not be there" for path in sorted(real.keys() - self.entries.keys())]
        for path in sorted(self.entries.keys() & real.keys()):
            want, have = self.entries[path], real[path]
            if want != have:
                result.append(f"{path}: {describe(want, have)}")
        return result


def describe(want, have):
    if want is None or have is None:
        return "one is a directory"
    if len(want) != len(have):
        return f"{len(have)} bytes instead of {len(want)}"
    first = next(index for index, pair in enumerate(zip(want, have)) if pair[0] != pair[1])
    return f"first difference at byte {first} (block {first // BLOCK}): {have[first]} instead of {want[first]}"


def run(model, root, rng, count):
    """`count` random operations; an assertion names the first whose result is not the model's."""
    model.rng = rng
    for number in range(count):
        name, operation = rng.choices(OPERATIONS, WEIGHTS)[0], None
        operation = globals()[f"_{name}"]
        try:
            operation(model, str(root), rng)
        except (OSError, AssertionError) as error:
            raise AssertionError(f"operation {number} ({name}): {error}") from error


WEIGHTED = {"write": 30, "append": 8, "truncate": 10, "read": 20, "create": 8, "unlink": 6, "rename_file": 6,
            "mkdir": 4, "rmdir": 2, "rename_directory": 2, "fallocate": 3, "fsync": 3, "rewrite": 3, "readdir": 3,
            "replay_page": 4, "stat": 5}
OPERATIONS, WEIGHTS = list(WEIGHTED), list(WEIGHTED.values())


def _pick_file(model, rng):
    return rng.choice(model.files())


def _new_path(model, rng):
    directory = rng.choice(model.directories())
    name = f"r{rng.randrange(1000)}"
    path = f"{directory}/{name}" if directory else name
    return None if path in model.entries else path


def _some_bytes(rng, most):
    return rng.randbytes(min(most, rng.choice((1, 7, 512, 4096, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK + 17))))


def _offset(rng, size):
    offset = rng.randrange(size + 2 * BLOCK)
    return offset // BLOCK * BLOCK if rng.random() < 0.5 else offset


def _store(content, offset, data):
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset:offset + len(data)] = data


def _write(model, root, rng):
    path = _pick_file(model, rng)
    content = model.entries[path]
    offset = min(_offset(rng, len(content)), MAX_FILE_BYTES)
    data = _some_bytes(rng, MAX_FILE_BYTES)
    fd = os.open(f"{root}/{path}", os.O_WRONLY)
    try:
        written = os.pwrite(fd, data, offset)
    finally:
        os.close(fd)
    assert written == len(data), f"{path}: wrote {written} of {len(data)} bytes"
    _store(content, offset, data)


def _append(model, root, rng):
    path = _pick_file(model, rng)
    if len(model.entries[path]) > MAX_FILE_BYTES:
        return
    data = _some_bytes(rng, 2 * BLOCK)
    with open(f"{root}/{path}", "ab") as file:
        file.write(data)
    model.entries[path] += data


def _truncate(model, root, rng):
    path = _pick_file(model, rng)
    content = model.entries[path]
    size = min(_offset(rng, len(content)), MAX_FILE_BYTES)
    os.truncate(f"{root}/{path}", size)
    if size <= len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _fallocate(model, root, rng):
    path = _pick_file(model, rng)
    content = model.entries[path]
    end = min(_offset(rng, len(content)) + BLOCK, MAX_FILE_BYTES)
    begin = rng.randrange(end)
    fd = os.open(f"{root}/{path}", os.O_RDWR)
    try:
        os.posix_fallocate(fd, begin, end - begin)
    finally:
        os.close(fd)
    if end > len(content):
        content.extend(bytes(end - len(content)))


def _read(model, root, rng):
    path = _pick_file(model, rng)
    content = model.entries[path]
    offset = _offset(rng, len(content))
    length = rng.choice((1, 100, BLOCK, 3 * BLOCK, 1 << 20))
    fd = os.open(f"{root}/{path}", os.O_RDONLY)
    try:
        have = os.pread(fd, length, offset)
    finally:
        os.close(fd)
    want = content[offset:offset + length]
    assert have == want, f"{path} at {offset}: {describe(want, have)}"


def _replay_page(model, root, rng):
    """Writes what is there already, as a server does with full-page images."""
    path = _pick_file(model, rng)
    content = model.entries[path]
    if not content:
        return
    offset = rng.randrange(len(content)) // BLOCK * BLOCK
    fd = os.open(f"{root}/{path}", os.O_WRONLY)
    try:
        os.pwrite(fd, content[offset:offset + BLOCK], offset)
    finally:
        os.close(fd)


def _rewrite(model, root, rng):
    path = _pick_file(model, rng)
    data = _some_bytes(rng, 3 * BLOCK)
    with open(f"{root}/{path}", "wb") as file:
        file.write(data)
    model.entries[path] = bytearray(data)


def _create(model, root, rng):
    path = _new_path(model, rng)
    if path is None or len(model.entries) > MAX_ENTRIES:
        return
    data = _some_bytes(rng, 2 * BLOCK)
    with open(f"{root}/{path}", "xb") as file:
        file.write(data)
    model.entries[path] = bytearray(data)


def _unlink(model, root, rng):
    if len(model.files()) > 20:
        path = _pick_file(model, rng)
        os.unlink(f"{root}/{path}")
        del model.entries[path]


def _rename_file(model, root, rng):
    source = _pick_file(model, rng)
    target = _new_path(model, rng) if rng.random() < 0.5 else _pick_file(model, rng)
    if target is not None and target != source:
        os.rename(f"{root}/{source}", f"{root}/{target}")
        model.entries[target] = model.entries.pop(source)


def _mkdir(model, root, rng):
    path = _new_path(model, rng)
    if path is not None and len(model.entries) <= MAX_ENTRIES:
        os.mkdir(f"{root}/{path}", 0o700)
        model.entries[path] = None


def _rmdir(model, root, rng):
    empty = [path for path in model.directories() if path and not model.below(path)]
    if empty:
        path = rng.choice(empty)
        os.rmdir(f"{root}/{path}")
        del model.entries[path]


def _rename_directory(model, root, rng):
    sources = [path for path in model.directories() if path]
    target = _new_path(model, rng)
    if not sources or target is None:
        return
    source = rng.choice(sources)
    if (target + "/").startswith(source + "/"):
        return
    os.rename(f"{root}/{source}", f"{root}/{target}")
    for path in [source, *model.below(source)]:
        model.entries[target + path[len(source):]] = model.entries.pop(path)


def _fsync(model, root, rng):
    path = rng.choice(["", *model.entries])
    fd = os.open(f"{root}/{path}", os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _readdir(model, root, rng):
    directory = rng.choice(model.directories())
    prefix = directory + "/" if directory else ""
    want = {path[len(prefix):] for path in model.entries if path.startswith(prefix) and "/" not in path[len(prefix):]}
    have = set(os.listdir(f"{root}/{directory}"))
    assert have == want, f"{directory or '.'}: {sorted(have ^ want)} differ"


def _stat(model, root, rng):
    path = rng.choice(list(model.entries))
    content = model.entries[path]
    found = os.lstat(f"{root}/{path}")
    assert stat.S_ISDIR(found.st_mode) == (content is None), f"{path}: wrong type"
    assert content is None or found.st_size == len(content), f"{path}: {found.st_size} bytes, not {len(content)}"
