"""Completion, in the shells themselves: what the scripts answer, and what appears at a prompt."""

import os
import pty
import select
import shutil
import subprocess

from pbkfs_e2e import case
from pbkfs_e2e.daemon import build_dir
from pbkfs_e2e.synthetic import SyntheticCatalog

# Generous: the machine may be busy.
SECONDS = 60
KILL_LINE = "\x15"


class Prompt:
    """An interactive shell on a terminal, in which keys are pressed."""

    def __init__(self, test, command, environment):
        self._test = test
        pid, self._terminal = pty.fork()
        if pid == 0:
            os.execvpe(command[0], command, environment)
        test.addCleanup(os.waitpid, pid, 0)
        test.addCleanup(os.close, self._terminal)  # Which ends the shell.

    def press(self, keys, expected):
        """Waits until the terminal shows `expected`."""
        os.write(self._terminal, keys.encode())
        seen = ""
        while expected not in seen:
            if not select.select([self._terminal], [], [], SECONDS)[0]:
                self._test.fail(f"{keys!r}: no {expected!r} in {seen!r}")
            seen += os.read(self._terminal, 1 << 16).decode(errors="replace")


class Completion(case.E2ECase):
    def setUp(self):
        super().setUp()
        self.need(shutil.which("zsh"), "zsh is not installed")
        self.catalog = SyntheticCatalog(self)
        self.daemon.mount(self.catalog.store, self.catalog.instance, None, self.work / "t")

    def complete_in_bash(self, *words):
        script = (f'source <("$PBKFS" completion bash)\nCOMP_WORDS=(pbkfs {" ".join(words)})\n'
                  'COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n'
                  '_pbkfs "$PBKFS"\nprintf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=SECONDS,
                              env={**os.environ, "PBKFS": build_dir() / "client" / "pbkfs",
                                   "PBKFS_ADDRESS": self.daemon.address})
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        return done.stdout.split()

    def complete_in_zsh(self, *words):
        script = ('compdef() { :; }\ncompset() { :; }\n_files() { print directories; }\n_users() { print users; }\n'
                  'compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -l -- "$@"; }\n'
                  'source <("$PBKFS" completion zsh)\n'
                  f'words=("$PBKFS" {" ".join(words)})\nCURRENT=${{#words}}\n_pbkfs')
        done = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, timeout=SECONDS,
                              env={**os.environ, "PBKFS": build_dir() / "client" / "pbkfs",
                                   "PBKFS_ADDRESS": self.daemon.address})
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        return done.stdout.split()

    def test_what_the_scripts_answer(self):
        store = str(self.catalog.store)
        for name, complete in (("bash", self.complete_in_bash), ("zsh", self.complete_in_zsh)):
            for expected, words in (
                    (["unmount"], ["unm"]), (["status", "reload", "upgrade", "dump", "log-level"], ["daemon", '""']),
                    (["--catalog-lock"], ["mount", "--cat"]), (["auto"], ["mount", "--catalog-lock", "a"]),
                    (["t"], ["unmount", '""']), (["node"], ["mount", "--store", store, "--instance", '""']),
                    (["latest", *self.catalog.ids],
                     ["mount", "--store", store, "--instance", "node", "--backup", '""'])):
                with self.subTest(shell=name, words=words):
                    self.assertEqual(expected, complete(*words))
        self.assertEqual(["auto"], self.complete_in_bash("mount", "--catalog-lock", "=", "a"))
        self.assertIn(str(self.work), self.complete_in_bash("mount", "--store", str(self.work)[:-1]))
        self.assertIn("root", self.complete_in_bash("mount", "--owner", "roo"))
        self.assertEqual(["--catalog-lock=auto"], self.complete_in_zsh("mount", "--catalog-lock=a"))
        self.assertEqual(["directories"], self.complete_in_zsh("mount", "--store", "/"))

    def test_the_tab_key_at_a_prompt(self):
        environment = {"PATH": f"{build_dir() / 'client'}:/usr/bin:/bin", "HOME": str(self.work), "TERM": "dumb",
                       "PBKFS_ADDRESS": self.daemon.address}
        for shell, setup in ((["bash", "--norc", "--noprofile", "-i"], ""),
                             (["zsh", "-f", "-i"], "autoload -Uz compinit; compinit -u -D; ")):
            with self.subTest(shell=shell[0]):
                prompt = Prompt(self, shell, environment)
                prompt.press(f"{setup}source <(pbkfs completion {shell[0]}); echo re''ady\r", "ready\r\n")
                for typed, shown in (("pbkfs unm", "pbkfs unmount "), ("pbkfs daemon st", "daemon status "),
                                     ("pbkfs unmount ", "unmount t "), ("pbkfs mount --catalog-lock=a", "lock=auto "),
                                     ("pbkfs mount --owner roo", "--owner root"),
                                     (f"pbkfs mount --store {str(self.work)[:-1]}", f"--store {self.work}/"),
                                     (f"pbkfs mount --store {self.catalog.store} --instance n", "--instance node ")):
                    prompt.press(f"{KILL_LINE}{typed}\t", shown)


if __name__ == "__main__":
    case.main()
