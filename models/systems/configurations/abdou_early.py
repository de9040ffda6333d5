"""Abdou et al. (2022), early fusion: gaze statistics joined with the frames' features, and encoded with them.

Layers' sizes are not published, nor where exactly gaze is joined: they are choices of ours, here in front of the GRU.
"""

from models.systems.registry import System, system

SYSTEM = system(
    "abdou-early",
    System(
        about="Abdou et al., early fusion; sizes, and where gaze is joined, chosen by us",
        towers={"video": "vgg-face-gru", "audio": "egemaps-mlp", "gaze": "gaze-mlp"},
        fusion="early",
    ),
)
