"""What other tools, and file systems, put beside a dataset's files.

It is no part of the dataset, and no fault of it either: it is noted by name, and never moved, for the tools look for it
where it is. Energon's ``prepare`` writes .nv-meta and an index beside every tar; wids' ``widsindex`` one index; the Hub
of Hugging Face keeps cards (the dataset's own is a build's), its attributes and what it knows of a download; an NFS
client keeps under .nfs… what is open somewhere and removed; macOS and Windows keep what their windows look like.
"""

import re
from collections.abc import Mapping

FILE_SYSTEM = "a file system"
_TOOLS: Mapping[str, str] = {
    "Energon": r"\.nv-meta|.+\.tar\.idx(\.tmp)?",
    "wids": r"shardindex\.json",
    "the Hugging Face Hub": r"README\.md|\.gitattributes|\.cache|\.huggingface",
    FILE_SYSTEM: r"\.nfs[0-9a-f]{8,}|\.fuse_hidden[0-9a-f]+|\.smbdelete[0-9A-Za-z]+|lost\+found|\.snapshot|\.Trash-\d+"
    r"|\.DS_Store|\._.+|\.Spotlight-V100|\.fseventsd|\.Trashes|Thumbs\.db|desktop\.ini|\.directory|@eaDir",
}


def owner_of(path: str) -> str | None:
    """Whose a file or folder beside a dataset's is, as it is called to people; None where it is not known.

    Args:
        path: within the dataset; what lies in a folder of a tool's is the tool's.
    """
    for part in path.split("/"):
        for tool, names in _TOOLS.items():
            if re.fullmatch(names, part):
                return tool
    return None
