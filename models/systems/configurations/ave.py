"""AVE-Net without gaze (Arandjelović and Zisserman: Objects that Sound, 2018), with the thesis' towers."""

from models.systems.registry import System, system

SYSTEM = system(
    "ave",
    System(
        about="AVE-Net without gaze, with the thesis' towers",
        towers={"video": "conv3d", "audio": "conv2d"},
        correspondence="ave",
    ),
)
