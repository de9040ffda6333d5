"""Which files of a corpus are looked at: the suffixes of video and sound, and FFmpeg's demuxer for each.

FFmpeg tells a file's format by its content. The demuxer stands here to say that there is one: elementary streams
(.h264, .m2v), which carry no times, playlists and pictures are not looked at.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
_MATROSKA = "matroska,webm"

# What corpora are published in. Where an utterance has a file of these and one of the others, this one is used.
_USUAL_VIDEO = {
    ".mp4": _MP4,
    ".avi": "avi",
    ".mkv": _MATROSKA,
    ".mov": _MP4,
    ".webm": _MATROSKA,
    ".mpg": "mpeg",
    ".mpeg": "mpeg",
    ".m4v": _MP4,
}
_OTHER_VIDEO = {
    ".flv": "flv",
    ".f4v": _MP4,
    ".3gp": _MP4,
    ".3gpp": _MP4,
    ".3g2": _MP4,
    ".qt": _MP4,
    ".ismv": _MP4,
    ".mk3d": _MATROSKA,
    ".ts": "mpegts",
    ".mts": "mpegts",
    ".m2ts": "mpegts",
    ".m2t": "mpegts",
    ".trp": "mpegts",
    ".vob": "mpeg",
    ".mpe": "mpeg",
    ".m2p": "mpeg",
    ".wmv": "asf",
    ".asf": "asf",
    ".ogv": "ogg",
    ".ogm": "ogg",
    ".divx": "avi",
    ".dv": "dv",
    ".mxf": "mxf",
    ".gxf": "gxf",
    ".wtv": "wtv",
    ".rm": "rm",
    ".rmvb": "rm",
    ".amv": "avi",
    ".nut": "nut",
}
_USUAL_AUDIO = {".wav": "wav", ".m4a": _MP4, ".flac": "flac", ".mp3": "mp3", ".ogg": "ogg", ".aac": "aac"}
_OTHER_AUDIO = {
    ".opus": "ogg",
    ".oga": "ogg",
    ".spx": "ogg",
    ".wma": "asf",
    ".aif": "aiff",
    ".aiff": "aiff",
    ".aifc": "aiff",
    ".au": "au",
    ".snd": "au",
    ".caf": "caf",
    ".mka": _MATROSKA,
    ".weba": _MATROSKA,
    ".m4b": _MP4,
    ".3ga": _MP4,
    ".mp2": "mp3",
    ".mpa": "mp3",
    ".adts": "aac",
    ".ac3": "ac3",
    ".eac3": "eac3",
    ".dts": "dts",
    ".amr": "amr",
    ".ape": "ape",
    ".wv": "wv",
    ".tta": "tta",
    ".sph": "nistsphere",
    ".w64": "w64",
    ".rf64": "wav",
    ".voc": "voc",
}

VIDEO: Mapping[str, str] = MappingProxyType(_USUAL_VIDEO | _OTHER_VIDEO)
AUDIO: Mapping[str, str] = MappingProxyType(_USUAL_AUDIO | _OTHER_AUDIO)
VIDEO_SUFFIXES = tuple(VIDEO)
AUDIO_SUFFIXES = tuple(AUDIO)


def is_usual(path: Path) -> bool:
    """Whether a file's suffix is one that corpora are published in: such a file goes before others."""
    suffix = path.suffix.lower()
    return suffix in _USUAL_VIDEO or suffix in _USUAL_AUDIO
