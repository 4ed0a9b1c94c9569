"""The errors a user can meet. Each message says what came, what was wanted and what to do.

MvsdError
├── AudioFileError      a sound file cannot be read or written
├── VideoFileError      a video cannot be read or written
├── PhotoError          a photo or depth map cannot be used
├── ModelFileError      a model file is corrupt or not ours
├── ConfigError         a configuration has an unknown key or a value out of range
├── DataError           a data set, shard or speech folder cannot be used
├── OutputExistsError   the output is there already and --force was not given
├── MissingExtraError   an optional dependency is not installed
└── NotMeasurable       a quantity cannot be measured on this signal (the reason is the message)
"""

from __future__ import annotations


class MvsdError(Exception):
    """Base of every error that is the input's fault, not the program's."""


class AudioFileError(MvsdError):
    """A sound file cannot be read or written."""


class VideoFileError(MvsdError):
    """A video cannot be read or written."""


class PhotoError(MvsdError):
    """A photo or depth map cannot be used."""


class ModelFileError(MvsdError):
    """A model file is corrupt, or was not written by this package."""


class ConfigError(MvsdError):
    """A configuration has an unknown key or a value out of range."""


class DataError(MvsdError):
    """A data set, a shard or a folder of speech cannot be used."""


class OutputExistsError(MvsdError):
    """The output exists and overwriting was not asked for."""


class NotMeasurable(MvsdError):
    """A quantity cannot be measured on this signal; the message is the reason."""


class MissingExtraError(MvsdError):
    """An optional dependency is missing; the message, after `hint`, names the extra that brings it."""

    def __init__(self, extra: str, package: str, hint: str = "") -> None:
        super().__init__(
            f'{hint}{package} is not installed; in mvsd\'s source folder run: pip install ".[{extra}]"'
        )
