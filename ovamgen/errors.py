"""The exceptions that ovamgen raises on purpose, each with the exit code its command ends with.

    OvamgenError                1   anything below
    |-- ConfigError             2   an option, key, file, folder or device (no GPU) that was given
    |-- PlanError               2   captions or instances that cannot be read or planned
    |-- MethodError             2   an attribution method asked for what the model cannot give
    |-- SampleError             1   one sample failed: it is recorded and its neighbours go on
    |-- ShardError              1   a shard, its record or the store that holds it
    |-- ClusterError            1   Ray: nobody answers, workers that keep dying
    |-- IncompleteError         3   the run ended, but samples are missing
    `-- VerificationError       4   an output is not as its plan and records say

Every message says what was expected, what came, and what to do. This module knows nothing else.
"""

from __future__ import annotations


class OvamgenError(Exception):
    """Base of every error that ovamgen raises on purpose."""

    exit_code = 1


class ConfigError(OvamgenError):
    """An option, a configuration key, a file or a folder that the user gave is not usable."""

    exit_code = 2


class PlanError(OvamgenError):
    """Captions or instances cannot be read, or cannot be planned as asked."""

    exit_code = 2


class MethodError(OvamgenError):
    """An attribution method was asked for something that the model or its settings cannot give."""

    exit_code = 2


class SampleError(OvamgenError):
    """One sample failed; it is recorded as a failure and its neighbours are not lost."""


class ShardError(OvamgenError):
    """A shard, its record or the store that holds it is missing, corrupt or mismatched."""


class ClusterError(OvamgenError):
    """The Ray cluster cannot do what was asked: nobody answers, workers keep dying, nodes leave."""


class IncompleteError(OvamgenError):
    """The run ended in order, but samples or shards are missing."""

    exit_code = 3


class VerificationError(OvamgenError):
    """An output was verified: something in it is damaged, missing, foreign or still to be made."""

    exit_code = 4
