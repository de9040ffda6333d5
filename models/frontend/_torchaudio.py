"""The one place that imports torchaudio."""

from loaders.without_cuda import make_torchaudio_importable

make_torchaudio_importable()

from torchaudio.transforms import MelSpectrogram  # noqa: E402  (the stand-in has to be there first)

__all__ = ["MelSpectrogram"]
