"""What a file system promised before a power cut, and whether it is there afterwards.

A log of events tells what a worker did. An intention is logged before it is carried out, so that whatever a cut shows
is in the log; a promise is logged after the system call that made it returned, so that one that is in the log holds.

    ["create", path, file]  ["mkdir", path]  ["rename", from, to]  ["unlink", path]     intentions: names
    ["write", file, first, count, stamp]  ["resize", file, size]
    ["punch", file, first, count]  ["allocate", file, size]                             intentions: bytes
    ["synced", file]  ["write-synced", file, first, count]  ["names-synced"]            promises

Sizes and offsets are in cells of 512 bytes; all cells of one write hold its stamp, a number that is never used again.

After a cut a cell must hold what it held at the last promise or what a later intention put there, and the size lies
between the smallest and the largest since. The names are those after some number of name changes, at least the
promised ones. A file that was renamed over another is as complete as if it had been synced just before.
"""

CELL = 512


def decode(data):
    """The cells of a file: the stamp where a cell holds one (zeros are stamp 0), else its bytes."""
    cells = []
    for begin in range(0, len(data), CELL):
        cell = bytes(data[begin:begin + CELL])
        head = cell[:8]
        cells.append(int.from_bytes(head, "little") if cell == head * (CELL // 8) else cell)
    return cells


def encode(value):
    return value.to_bytes(8, "little") * (CELL // 8) if isinstance(value, int) else value


class Names:
    """Paths to file numbers; directories stand with None."""

    KINDS = {"create", "mkdir", "rename", "unlink"}

    def __init__(self, entries):
        self.entries = dict(entries)

    def apply(self, event):
        kind, path = event[0], event[1]
        if kind == "create":
            self.entries[path] = event[2]
        elif kind == "mkdir":
            self.entries[path] = None
        elif kind == "unlink":
            del self.entries[path]
        else:
            target = event[2]
            for child in [name for name in self.entries if name.startswith(path + "/")]:
                self.entries[target + child[len(path):]] = self.entries.pop(child)
            self.entries[target] = self.entries.pop(path)

    def replaces_file(self, event):
        return event[0] == "rename" and self.entries.get(event[2]) is not None

    def shape(self):
        return {(path, file is None) for path, file in self.entries.items()}


class History:
    """What each cell of one file may hold."""

    def __init__(self, cells):
        self.cells = list(cells)
        self.size = len(self.cells)
        self.promise()

    def promise(self):
        """Everything is on disk as it is now."""
        del self.cells[self.size:]
        self.smallest = self.largest = self.size
        self.allowed = [{cell} for cell in self.cells]

    def promise_range(self, first, count):
        for index in range(first, first + count):
            self.allowed[index] = {self.cells[index]}
        self.smallest = max(self.smallest, first + count)

    def apply(self, event):
        kind = event[0]
        if kind == "write":
            first, count, stamp = event[2:]
            self._grow(first + count)
            self._fill(first, count, stamp)
        elif kind == "punch":
            first, count = event[2:]
            self._fill(first, max(0, min(count, self.size - first)), 0)
        elif kind == "allocate":
            self._grow(event[2])
        elif event[2] < self.size:
            self._fill(event[2], self.size - event[2], 0)
            self.size = event[2]
            self.smallest = min(self.smallest, self.size)
        else:
            self._grow(event[2])

    def _grow(self, size):
        missing = size - len(self.cells)
        self.cells += [0] * missing
        self.allowed += [{0} for _ in range(missing)]
        self.size = max(self.size, size)
        self.largest = max(self.largest, self.size)

    def _fill(self, first, count, value):
        for index in range(first, first + count):
            self.cells[index] = value
            self.allowed[index].add(value)

    def problem(self, data):
        """Why `data` may not be what is left of the file, or None."""
        if len(data) % CELL or not self.smallest <= len(data) // CELL <= self.largest:
            return f"{len(data)} bytes; may have {self.smallest * CELL} to {self.largest * CELL}"
        for index, value in enumerate(decode(data)):
            if value not in self.allowed[index] and not self._is_mixture(index, value):
                shown = [cell if isinstance(cell, int) else "bytes of the backup" for cell in self.allowed[index]]
                found = value if isinstance(value, int) else value[:32].hex() + "…"
                return f"byte {index * CELL} (block {index * CELL // 8192}) holds {found}; may hold {shown}"
        return None

    def _is_mixture(self, index, value):
        """A page that was being written when the power went may hold a part of each."""
        choices = [encode(cell) for cell in self.allowed[index]]
        return len(choices) > 1 and all(byte in {choice[at] for choice in choices}
                                        for at, byte in enumerate(encode(value)))


class Worker:
    """What one worker began with, and the check of what a cut left of it."""

    def __init__(self, entries, contents):
        """`entries`: {path: file}; `contents`: {file: bytes} of those that are not empty."""
        self.entries = dict(entries)
        self.contents = {file: decode(data) for file, data in contents.items()}

    def problems(self, events, promised, found):
        """`events[:promised]` were logged before the cut began, all of `events` before it ended; `found`: {path:
        bytes, or None for a directory}."""
        shape = {(path, data is None) for path, data in found.items()}
        candidates = list(self._states_with(shape, events, promised))
        if not candidates:
            return [self._explain_names(shape, events, promised)]
        for applied, names in candidates:
            problems = self._content_problems(applied, names, events, promised, found)
            if not problems:
                return []
        return problems

    def _states_with(self, shape, events, promised):
        """(number of events, names) of the states that a cut may leave and that look like `shape`."""
        least = max((index for index, event in enumerate(events[:promised]) if event[0] == "names-synced"), default=0)
        names = Names(self.entries)
        changed = True
        for index, event in enumerate([*events, None]):
            if index >= least and changed and names.shape() == shape:
                yield index, dict(names.entries)
            if event is not None and index >= least:
                changed = False
            if event is not None and event[0] in Names.KINDS:
                names.apply(event)
                changed = True

    def _explain_names(self, shape, events, promised):
        names = Names(self.entries)
        for event in events[:promised]:
            if event[0] in Names.KINDS:
                names.apply(event)
        difference = sorted(path for path, _ in names.shape() ^ shape)
        return f"the names are those of no moment since they were synced; near the cut, these differ: {difference}"

    def _content_problems(self, applied, names, events, promised, found):
        histories = self._histories(applied, set(names.values()), events, promised)
        problems = []
        for path, file in names.items():
            problem = None if file is None else histories[file].problem(found[path])
            if problem:
                problems.append(f"{path} (file {file}): {problem}")
        return problems

    def _histories(self, applied, wanted, events, promised):
        histories = {file: History(self.contents.get(file, [])) for file in wanted if file is not None}
        names = Names(self.entries)
        for index, event in enumerate(events):
            kind = event[0]
            if kind in Names.KINDS:
                source = names.entries.get(event[1])
                if index < applied and names.replaces_file(event) and source in histories:
                    histories[source].promise()
                names.apply(event)
            elif kind == "names-synced" or event[1] not in histories:
                continue
            elif kind == "synced":
                if index < promised:
                    histories[event[1]].promise()
            elif kind == "write-synced":
                if index < promised:
                    histories[event[1]].promise_range(event[2], event[3])
            else:
                histories[event[1]].apply(event)
        return histories
