"""What the thesis and the works that it compares itself with have published: scores in percent, by table.

The thesis: Video Based Crossmodal Representation Learner for Emotion Recognition, University of Stuttgart, Tables 4.1
to 4.3; means over three runs, without intervals. The classes' shares in its test split are not published, so neither is
what always saying the most frequent one scores there. From scratch it has no joint score.
"""

from __future__ import annotations

from collections.abc import Mapping

SOURCE = "the thesis, Tables 4.1 to 4.3"

#: Table 4.1: accuracy on pairs.
PAIRS_CHANCE = 50.00
PAIRS: Mapping[str, float] = {"l3": 84.62, "ave": 85.11}

#: Table 4.2: micro-F1 by network, arm and channel.
EMOTION: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "l3": {
        "pre-trained": {"audio": 45.94, "visual": 49.28, "joint": 57.82},
        "from scratch": {"audio": 38.65, "visual": 42.37},
    },
    "ave": {
        "pre-trained": {"audio": 45.42, "visual": 42.94, "joint": 52.35},
        "from scratch": {"audio": 41.79, "visual": 40.27},
    },
}

#: Table 4.3: micro-F1 of audio and video, beside the pre-trained L3-Net's of Table 4.2.
PRIOR: Mapping[str, tuple[float, float]] = {
    "Abdou et al., model-level fusion": (42.6, 45.0),
    "Abdou et al., early fusion": (43.4, 43.7),
    "Han et al. (EmoBed)": (41.7, 43.9),
    "OMG baseline": (33.0, 37.0),
}
