"""Clients of PostgreSQL that know which of their commits were answered."""

# What the clients need in the database.
TABLE = "CREATE TABLE acked (id bigint PRIMARY KEY)"

_IDS_OF_A_CLIENT = 1_000_000
_COMMITS_OF_A_CLIENT = 100_000


class Committer:
    """A client that inserts numbers and writes each to a file once its commit was answered. Ends with the test."""

    def __init__(self, test, server, number):
        script, self.path = test.work / f"commit-{number}.sql", test.work / f"commit-{number}.acks"
        self.errors = test.work / f"commit-{number}.errors"
        first = number * _IDS_OF_A_CLIENT
        script.write_text("".join(f"INSERT INTO acked VALUES ({n});\n\\echo {n}\n"
                                  for n in range(first, first + _COMMITS_OF_A_CLIENT)))
        script.chmod(0o644)
        with open(self.path, "wb") as output, open(self.errors, "wb") as errors:
            # psql writes to a file in large pieces unless it is told not to.
            self.process = server.start_tool("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f", script,
                                             stdout=output, stderr=errors, wrapper=["stdbuf", "-oL"])
        test.addCleanup(self.process.kill)

    def answered(self):
        """The numbers whose commit was answered."""
        return {int(line) for line in self.path.read_bytes().split(b"\n")[:-1]}


def check(test, server, answered, what):
    """Every commit of `answered` is there, pgbench's sums agree, and no page or index is damaged. Returns the numbers
    that are there."""
    there = {int(line) for line in server.sql("SELECT id FROM acked").split()}
    lost = sorted(answered - there)
    test.assertEqual([], lost[:10], f"{what}: {len(lost)} acknowledged commits are lost")
    test.assertEqual("t", server.sql("""
        SELECT (SELECT sum(abalance) FROM pgbench_accounts) = sum(delta)
           AND (SELECT sum(tbalance) FROM pgbench_tellers) = sum(delta)
           AND (SELECT sum(bbalance) FROM pgbench_branches) = sum(delta) FROM pgbench_history"""), what)
    server.tool("pg_amcheck", "--all", "--install-missing", "--heapallindexed")
    return there
