"""EmoBed (Han et al., 2019): a shared recogniser over a shared embedding space, without gaze.

Of its towers, features and sizes, choices of ours: those of Abdou et al.'s model-level fusion, so that the two differ
by gaze alone.
"""

from models.systems.registry import System, system

SYSTEM = system(
    "emobed",
    System(
        about="EmoBed: shared recogniser and embedding space, no gaze; towers and sizes chosen by us",
        towers={"video": "vgg-face-gru", "audio": "egemaps-mlp"},
    ),
)
