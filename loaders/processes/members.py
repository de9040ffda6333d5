"""Members of shards, read into memory and checked there: by a thread of the loader, or by a process of its own.

    python members.py DESCRIPTOR PARENT FOLDER

As a program it does so for the loader at the other end of a socket, whose memory it is given by descriptors: see
`loaders.processes.pool`. It imports next to nothing, so that it starts in some hundredths of a second and takes 10 MB.
"""

import mmap
import os
import signal
import socket
import struct
import sys
import threading
import time
from array import array
from collections.abc import Sequence
from contextlib import suppress

if __name__ == "__main__":
    sys.path.append(sys.argv[3])  # where xxhash is: the program is started without the folders of packages

import xxhash

#: members; number of the memory, and whether its descriptor comes first; memories to forget
REQUEST = struct.Struct("<qq?q")
ANSWER = struct.Struct("<qd")  #: bad members, and seconds of processor time since the program's start
COLUMNS = 5  #: of a member, 8 bytes each: which descriptor, offset, size, checksum, start
MOST_SHARDS = 32  #: of a request; a message carries 253 descriptors at most

_LOOK = 5.0  # seconds from one look whether the parent is there to the next


def read_and_check(descriptors: Sequence[int], members: Sequence[Sequence[int]], memory: memoryview) -> list[int]:
    """Read members to where they are to go, and check them there; while bytes move, other threads run.

    Args:
        descriptors: of open shards.
        members: columns of one entry a member: which of these it is in, its offset there, its size in bytes, its
            checksum (XXH3, 64 bits), and where in the memory it is to begin.
        memory: bytes, to write to.

    Returns:
        Which of them could not be read whole or do not have their checksum, ascending.
    """
    preadv, digest = os.preadv, xxhash.xxh3_64_intdigest
    bad = []
    for index, (shard, offset, size, xxh3, start) in enumerate(zip(*members, strict=True)):
        data = memory[start : start + size]
        try:
            is_whole = preadv(descriptors[shard], [data], offset) == size and digest(data) == xxh3
        except OSError:
            is_whole = False
        if not is_whole:
            bad.append(index)
    return bad


def serve(connection: socket.socket) -> None:
    """Answer requests.

    Raises:
        EOFError: the other end was closed.
    """
    memories: dict[int, mmap.mmap] = {}
    while True:
        begun, descriptors, _, _ = socket.recv_fds(connection, REQUEST.size, 1 + MOST_SHARDS)
        begun += _receive(connection, REQUEST.size - len(begun))
        count, number, is_new, forgotten = REQUEST.unpack(begun)
        body = _receive(connection, 8 * (forgotten + COLUMNS * count))
        numbers = array("q", body[: 8 * forgotten])
        for gone in numbers:
            del memories[gone]
        if is_new:
            # Whole, at once: page by page, as each is first touched, it takes longer than to read several steps.
            memories[number] = mmap.mmap(descriptors[0], 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
            os.close(descriptors.pop(0))
        columns = [
            array(code, body[8 * (forgotten + place * count) : 8 * (forgotten + (place + 1) * count)])
            for place, code in enumerate("qqqQq")
        ]
        with memoryview(memories[number]) as memory:
            bad = read_and_check(descriptors, columns, memory)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.sendall(ANSWER.pack(len(bad), time.process_time()) + array("q", bad).tobytes())


def _receive(connection: socket.socket, length: int) -> bytes:
    """So many bytes; EOFError where the other end was closed before."""
    received = bytearray()
    while len(received) < length:
        piece = connection.recv(length - len(received))
        if not piece:
            raise EOFError
        received += piece
    return bytes(received)


def _end_without(parent: int) -> None:
    """End this process once its parent has: a process forked from it may still have its end of the socket."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(0)


def main() -> None:
    """The program."""
    # It ends with its parent, which may have work to finish after such a signal to the whole group.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_end_without, args=(int(sys.argv[2]),), daemon=True).start()
    with suppress(EOFError, ConnectionError):
        serve(connection)


if __name__ == "__main__":
    main()
