"""Every metric of the tables: one function each, called with keywords, a number or an error.

All take mono clips (T,) of equal length and rate. `target` is what the estimate should have been: the dry
voice for dereverberation, the reverberant one for reverberation; `source` is what the converter was given. A
value that cannot be had raises `NotMeasurable` with the reason, a missing library `MissingExtraError`; no
value is ever made up.
"""

from mvsd.evaluation.metrics.catalogue import (
    METRICS,
    MORE_METRICS,
    Metric,
    Scores,
    Task,
    bootstrap_interval,
    choose,
    measure,
    versions,
)
from mvsd.evaluation.metrics.rooms import (
    c50_error_db,
    d50_error,
    drr_error_db,
    edt_error,
    residual_drr_db,
    t20_error,
    t20_error_percent,
    t30_error,
)
from mvsd.evaluation.metrics.rt60 import rte
from mvsd.evaluation.metrics.speakers import (
    EqualErrorRate,
    Trial,
    equal_error_rate,
    load_trials,
    make_trials,
    save_trials,
    speaker_embedding,
    speaker_error_rate,
    speaker_similarity,
)
from mvsd.evaluation.metrics.spectra import log_stft_distance, stft_distance
from mvsd.evaluation.metrics.speech import dnsmos, estoi, mose, pesq_wb, si_sdr_db, stoi
from mvsd.evaluation.metrics.srmr import srmr
from mvsd.evaluation.metrics.words import normalized_words, recognize, wer

__all__ = [
    "METRICS",
    "MORE_METRICS",
    "EqualErrorRate",
    "Metric",
    "Scores",
    "Task",
    "Trial",
    "bootstrap_interval",
    "c50_error_db",
    "choose",
    "d50_error",
    "dnsmos",
    "drr_error_db",
    "edt_error",
    "equal_error_rate",
    "estoi",
    "load_trials",
    "log_stft_distance",
    "make_trials",
    "measure",
    "mose",
    "normalized_words",
    "pesq_wb",
    "recognize",
    "residual_drr_db",
    "rte",
    "save_trials",
    "si_sdr_db",
    "speaker_embedding",
    "speaker_error_rate",
    "speaker_similarity",
    "srmr",
    "stft_distance",
    "stoi",
    "t20_error",
    "t20_error_percent",
    "t30_error",
    "versions",
    "wer",
]
