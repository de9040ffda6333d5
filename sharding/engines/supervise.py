"""A program that runs another one, and ends it, with all that it has started, when whoever asked for it is gone.

    python supervise.py COMMAND ARGUMENT...

Standard input is a pipe of which the asker holds the other end. Its end is seen whatever became of the asker, even by
``kill -9``, of which it learns nothing itself.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Run the command; its exit status, as a shell has it: 127 where there is no such program."""
    try:
        # In a session of its own, so that what the command starts can be ended together with it.
        process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"{sys.argv[1]}: {error.strerror}", file=sys.stderr)
        return 127

    def end_with_asker() -> None:
        os.read(0, 1)
        os.killpg(process.pid, signal.SIGKILL)

    threading.Thread(target=end_with_asker, daemon=True).start()
    status = process.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
