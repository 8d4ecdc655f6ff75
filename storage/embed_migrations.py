"""embed_migrations.py OUT FILE...: the numbered SQL files as C arrays, in order, a list for each kind."""

import pathlib
import sys


def literal(text):
    lines = text.replace("\\", "\\\\").replace('"', '\\"').splitlines()
    return "\n".join(f'    "{line}\\n"' for line in lines)


def main():
    out, files = sys.argv[1], sorted(pathlib.Path(name) for name in sys.argv[2:])
    kinds = {"state": [], "history": []}
    for path in files:
        kind, number = path.name.split("_")[:2]
        if int(number) != len(kinds[kind]) + 1:
            sys.exit(f"{path.name}: the next one of its kind is number {len(kinds[kind]) + 1}")
        kinds[kind].append(path.read_text())
    with open(out, "w") as file:
        file.write('#include "storage/db_internal.h"\n')
        for kind, texts in kinds.items():
            file.write(f"\nconst struct migration {kind}_migrations[] = {{\n")
            for text in texts:
                file.write(f"    {{\n{literal(text)}\n    }},\n")
            file.write("    {NULL},\n};\n")


main()
