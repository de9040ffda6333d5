"""The one exception that a user causes and a user can mend."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """Something given to us is wrong: a path, a file's content, a setting.

    The message is one line that names the thing and the mend. Command lines print it without a traceback and exit
    with status 2; anything else that escapes is a defect of ours and keeps its traceback.
    """


def printable(text: str) -> str:
    """A text without a terminal's escapes: names come from files and may hold anything."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


@contextmanager
def reported() -> Iterator[None]:
    """Around a command line's work: print an InputError as one line and exit with 2; Ctrl-C exits with 130."""
    try:
        yield
    except InputError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
