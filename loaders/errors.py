"""The one exception that a user causes and a user can mend, and how a command ends with it."""

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

WRONG_INPUT = 2  #: exit status: something given to us is wrong, and stays so until somebody mends it
TRY_AGAIN = 75  #: exit status, EX_TEMPFAIL of sysexits.h: nothing given to us is wrong, later the same may go well


class InputError(Exception):
    """Something given to us is wrong: a path, a file's content, a setting.

    The message is one line that names the thing and the mend. Command lines print it without a traceback and exit
    with `WRONG_INPUT`, or with `TRY_AGAIN`; anything else that escapes is a defect of ours and keeps its traceback.
    """

    subject: str  #: what is wrong; empty where the message came as one line
    problem: str  #: what is wrong with it; the whole message where that came as one line
    mend: str  #: what helps; empty where the message came as one line
    try_again: bool  #: the same may go well later: a store fails, another process is at work

    def __init__(
        self, message: object, problem: str | None = None, mend: str | None = None, *, try_again: bool = False
    ) -> None:
        """
        Args:
            message: the line; with ``problem`` and ``mend`` the subject alone, such as a path, and the line is made of
                the three.
            problem, mend: both or none, for whoever wants to tell them apart.
            try_again: nobody has to change anything for it to go well later.
        """
        if (problem is None) != (mend is None):
            raise TypeError("a problem and its mend come together")
        one_line = problem is None
        # The line is what it is made again of: in another process its other attributes are put back after that.
        super().__init__(str(message) if one_line else f"{message}: {problem}: {mend}")
        self.subject = "" if one_line else str(message)
        self.problem = str(message) if problem is None else problem
        self.mend = mend or ""
        self.try_again = try_again

    @property
    def exit_status(self) -> int:
        """Of a command that ends with it."""
        return TRY_AGAIN if self.try_again else WRONG_INPUT

    def renamed(self, old: str, new: str) -> Self:
        """The same error, without its traceback and causes, where the text ``old``, such as a path, reads ``new``."""
        other = copy.copy(self)
        other.args = tuple(text.replace(old, new) for text in self.args)
        for name in ("subject", "problem", "mend"):
            setattr(other, name, getattr(self, name).replace(old, new))
        return other


def first_line(error: BaseException) -> str:
    """What failed, in one line: the first of an exception's that is not blank, its type's name where it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def as_one_line(text: str, longest: int) -> str:
    """A text of several lines as one, cut after so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[:longest]}…"


def printable(text: str) -> str:
    """A text without a terminal's escapes: names come from files and may hold anything."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


@contextmanager
def reported() -> Iterator[None]:
    """Around a command line's work: print an InputError as one line and exit with its status; Ctrl-C exits with 130."""
    try:
        yield
    except InputError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
