"""Flip a bit in the middle of a file or object: ``python rot.py PLACE``. Twice, and it is as it was."""

import sys

import fsspec

if __name__ == "__main__":
    file_system, path = fsspec.core.url_to_fs(sys.argv[1])
    data = bytearray(file_system.cat_file(path))
    data[len(data) // 2] ^= 4
    file_system.pipe_file(path, bytes(data))
    print(f"{sys.argv[1]}: bit 2 of byte {len(data) // 2} is flipped")
