"""The gaze-enhanced AVE-Net of the thesis (section 3.3, Figure 3.5)."""

from models.systems.registry import System, system

SYSTEM = system(
    "gaze-ave",
    System(
        about="the thesis' gaze-enhanced AVE-Net",
        towers={"video": "conv3d", "audio": "conv2d", "gaze": "gaze-mlp"},
        correspondence="ave",
    ),
)
