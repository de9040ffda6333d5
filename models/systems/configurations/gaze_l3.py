"""The gaze-enhanced L3-Net of the thesis (section 3.3, Figure 3.6)."""

from models.systems.registry import System, system

SYSTEM = system(
    "gaze-l3",
    System(
        about="the thesis' gaze-enhanced L3-Net",
        towers={"video": "conv3d", "audio": "conv2d", "gaze": "gaze-mlp"},
        correspondence="l3",
    ),
)
