"""Abdou et al. (2022), model-level fusion: functionals, faces and gaze each encoded, video and gaze then joined.

What is published: eGeMAPS' functionals into an MLP, VGG-Face's features of each frame into one GRU layer, gaze
statistics into an MLP; an MLP joins video and gaze. Layers' sizes are not: they are choices of ours.
"""

from models.systems.registry import System, system

SYSTEM = system(
    "abdou-model-level",
    System(
        about="Abdou et al., model-level fusion; sizes chosen by us",
        towers={"video": "vgg-face-gru", "audio": "egemaps-mlp", "gaze": "gaze-mlp"},
    ),
)
