"""Windows of a batch's filmstrips, cut where the filmstrips lie in memory.

The frames of a window follow each other in the file. So the header is written anew straight before the first of them,
over frames that are not wanted, the markers between them are numbered anew, and an end of the image is put behind the
last: the file that `loaders.decode.cut.strip_of` makes, byte for byte, without a copy of its scans. All filmstrips of a
batch are cut by the same few array operations; one after the other, each would hold the interpreter's lock for longer
than it takes to read it, and the threads that read would wait for each other.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loaders.decode.frame_offsets import END_OF_IMAGE, MARKER, RESTARTS, StripHeader, restart_marker

Bytes = NDArray[np.uint8]

_END_OF_IMAGE = np.frombuffer(END_OF_IMAGE, np.uint8)
_PREFIX, _FIRST_RESTART = restart_marker(0)


class Windows(NamedTuple):
    """Files that were cut, in the memory that their filmstrips lay in."""

    rows: NDArray[np.int64]  #: (N,) which of the filmstrips were cut; the others lie there as before
    begin: NDArray[np.int64]  #: (N,) where each file begins
    end: NDArray[np.int64]  #: (N,) and ends


def cut_windows(
    memory: Bytes,
    start: NDArray[np.int64],
    size: NDArray[np.int64],
    chosen: NDArray[np.integer],
    header: StripHeader,
    frames: int,
) -> Windows:
    """Cut those filmstrips whose headers begin with ``header.start`` and say truly where their frames lie.

    Args:
        memory: (bytes,), where the filmstrips lie, none over another; changed.
        start, size: of each of the B filmstrips, in bytes; (B,).
        chosen: (B, T), numbers of frames that follow each other.
        header: of one of them.
        frames: how many a filmstrip has.
    """
    count = chosen.shape[1]
    if not header.says:
        return Windows(*np.empty((3, 0), np.int64))
    rows, at, scans, ends = _found(memory, start, size, header, frames)
    first = chosen[rows, 0].astype(np.int64)
    bounds = np.concatenate([scans, ends[:, None]], 1)  # of each frame's scan and the marker behind it
    window = np.take_along_axis(bounds, first[:, None] + np.arange(count + 1), 1)
    # What stands between the offsets and the first scan is moved to the window, and what before the offsets is written
    # before that. It is not of one length: the tables are made for each picture.
    tables = scans[:, 0] - header.rest
    longest = int(tables.max(initial=0))
    before = np.arange(-longest, 0)
    memory[(at + window[:, 0])[:, None] + before] = memory[(at + scans[:, 0])[:, None] + before]
    head = np.frombuffer(header.with_height(header.height // frames * count), np.uint8)
    begin = at + window[:, 0] - tables - len(head)
    memory[begin[:, None] + np.arange(len(head))] = head
    memory[at[:, None] + window[:, 1:-1] - 1] = _FIRST_RESTART + np.arange(count - 1) % RESTARTS
    end = at + window[:, -1]
    memory[end[:, None] + np.arange(-MARKER, 0)] = _END_OF_IMAGE
    return Windows(rows, begin, end)


def _found(
    memory: Bytes, start: NDArray[np.int64], size: NDArray[np.int64], header: StripHeader, frames: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Filmstrips whose frames lie where their headers say, see `loaders.decode.frame_offsets`.

    Returns:
        Which they are, (N,); where each begins in memory, (N,); and in it where the scan of each frame begins, (N,
        frames), and where the file ends, (N,).
    """
    known, end = np.frombuffer(header.start, np.uint8), np.frombuffer(header.end, np.uint8)
    numbers = 4 * frames
    least = len(known) + numbers + len(end)
    rows = np.flatnonzero(size > least + MARKER)
    at, last = start[rows], size[rows] - MARKER
    kept = (memory[at[:, None] + np.arange(len(known))] == known).all(1)
    kept &= (memory[(at + last)[:, None] + np.arange(MARKER)] == _END_OF_IMAGE).all(1)
    rows, at, last = rows[kept], at[kept], last[kept]
    stated = memory[(at + len(known))[:, None] + np.arange(numbers)].view(">u4").astype(np.int64)
    # Tables as long as all that stands before them are none that an encoder writes: with such a filmstrip's others
    # would not be found before their own beginning.
    kept = (stated[:, 0] >= least) & (stated[:, 0] <= 2 * header.rest)
    kept &= (stated[:, -1] < last) & (np.diff(stated) > 0).all(1)
    rows, at, last, stated = rows[kept], at[kept], last[kept], stated[kept]
    kept = (memory[(at + stated[:, 0])[:, None] + np.arange(-len(end), 0)] == end).all(1)
    marks = at[:, None] + stated[:, 1:]
    kept &= (memory[marks - MARKER] == _PREFIX).all(1)
    kept &= (memory[marks - 1] == _FIRST_RESTART + np.arange(frames - 1) % RESTARTS).all(1)
    return rows[kept], at[kept], stated[kept], last[kept] + MARKER
