"""What is on the shelves, kept in one JSON file."""

import json
import os
import pathlib


class Stock:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.items = json.loads(self.path.read_text()) if self.path.exists() else {}

    def put(self, name, count):
        """Sets how many there are. A count of 0 takes the item off the shelves."""
        if not name or "/" in name:
            raise ValueError("an item needs a name without slashes")
        if count < 0:
            raise ValueError("a count cannot be negative")
        if count:
            self.items[name] = count
        else:
            self.items.pop(name, None)
        self._save()

    def total(self):
        return sum(self.items.values())

    def _save(self):
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(self.items, sort_keys=True, indent=1) + "\n")
        os.replace(temporary, self.path)
