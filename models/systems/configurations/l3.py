"""L3-Net without gaze (Arandjelović and Zisserman: Look, Listen and Learn, 2017), with the thesis' towers."""

from models.systems.registry import System, system

SYSTEM = system(
    "l3",
    System(
        about="L3-Net without gaze, with the thesis' towers",
        towers={"video": "conv3d", "audio": "conv2d"},
        correspondence="l3",
    ),
)
