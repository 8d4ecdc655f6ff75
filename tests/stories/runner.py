"""The shared runner: python3 -m stories [--environment E] [--isolation vm|container] [STORY...]

Tells the named stories (all five, in order, where none is named) against the daemon that HEARTH_URL
names, each in a directory of its own. The exit status is the number of stories that did not hold.
"""

import argparse
import os
import sys
import tempfile
import traceback

from . import cold_start, parallel, repro_fix, review_eval, untrusted
from .story import Story

STORIES = {
    "cold-start-repo-validation": cold_start.tell,
    "repro-fix-loop": repro_fix.tell,
    "parallel-workspaces": parallel.tell,
    "untrusted-inspection": untrusted.tell,
    "review-eval-workflows": review_eval.tell,
}


def tell(name, hearth, environment, isolation=None, say=print):
    with tempfile.TemporaryDirectory(prefix="story-") as directory:
        STORIES[name](Story(hearth, environment, directory, isolation, say))


def main():
    from hearth import Hearth

    parser = argparse.ArgumentParser(prog="stories", description=__doc__.split("\n")[0])
    parser.add_argument("--environment", default=os.environ.get("USE_CASE_ENVIRONMENT") or "debian:12")
    parser.add_argument("--isolation", choices=["vm", "container"])
    parser.add_argument("stories", nargs="*", metavar="STORY", help=", ".join(STORIES))
    arguments = parser.parse_args()
    unknown = set(arguments.stories) - STORIES.keys()
    if unknown:
        parser.error(f"no such story: {', '.join(sorted(unknown))}")

    failed = 0
    with Hearth() as hearth:
        for name in arguments.stories or STORIES:
            print(name, flush=True)
            try:
                tell(name, hearth, arguments.environment, arguments.isolation,
                     lambda text: print(text, flush=True))
            except Exception:  # A story that breaks must not hide the others.
                traceback.print_exc()
                failed += 1
    print(f"stories: {len(arguments.stories or STORIES) - failed} held, {failed} did not")
    return failed


if __name__ == "__main__":
    sys.exit(main())
