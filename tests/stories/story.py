"""What every story is given, and how it says what it does."""

import contextlib
import pathlib
import time


class Story:
    """One telling: a client, an environment, what guests to ask for, a directory of its own on the host."""

    def __init__(self, hearth, environment, directory, isolation=None, say=print):
        self.hearth = hearth
        self.environment = environment
        self.directory = pathlib.Path(directory)
        self.isolation = isolation
        self._say = say
        self._started = time.monotonic()

    def step(self, text):
        self._say(f"  {time.monotonic() - self._started:6.1f} s  {text}")

    @contextlib.contextmanager
    def workspace(self, **arguments):
        """A workspace that is deleted at the end, whatever happens."""
        created = self.hearth.create_workspace(self.environment, isolation=self.isolation, **arguments)
        workspace_id = created["workspace_id"]
        try:
            yield workspace_id
        finally:
            self.hearth.delete_workspace(workspace_id)

    def run(self, workspace_id, command, expect=0, **arguments):
        """The command's result; any exit code but the expected one ends the story."""
        result = self.hearth.exec_workspace(workspace_id, command=command,
                                            **{"timeout_seconds": 120, **arguments})
        assert expect is None or result["exit_code"] == expect, (
            f"`{command}` ended with {result['exit_code']}:\n{result['stdout']}{result['stderr']}")
        return result

    def files(self, workspace_id, path="/workspace"):
        """{path below it: entry} of a whole tree."""
        entries, cursor = {}, None
        while True:
            page = self.hearth.list_workspace_files(workspace_id, path=path, recursive=True,
                                                    limit=1000, cursor=cursor)
            for entry in page["entries"]:
                entries[entry["path"].removeprefix("/workspace/")] = entry
            cursor = page["next_cursor"]
            if cursor is None:
                return entries
