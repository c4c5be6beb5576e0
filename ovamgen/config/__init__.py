"""The configuration of a run: models, presets, YAML and ``a.b=c`` overrides, fingerprint.

It says what may be asked and what is asked; whether files, models and devices exist is found out
by the parts that use them.
"""

from ovamgen.config.attribution import AttributionConfig
from ovamgen.config.fingerprint import (
    SAMPLES_VERSION,
    canonical_json,
    fingerprint,
    fingerprint_of,
    flatten,
    identity,
)
from ovamgen.config.head_source import SHIPPED_HEADS
from ovamgen.config.label import DEFAULT_PROBE, NO_SCHEDULER, LabelConfig
from ovamgen.config.loading import (
    FROM_FILE,
    build_config,
    is_preset_file,
    load_preset,
    merge,
    parse_overrides,
    preset_names,
    read_config_file,
    read_preset,
    with_preset_file,
)
from ovamgen.config.masks import (
    RECORDED_SELF_ATTENTION,
    TOKEN_TAU,
    WORD_TAU,
    CrfConfig,
    MaskConfig,
    Normalisation,
)
from ovamgen.config.methods import METHODS, Branch, Method, check_method, default_branch, uses_head
from ovamgen.config.model import (
    DEFAULT_MODEL,
    DEFAULT_REVISION,
    MODEL_IDENTITY,
    Lora,
    ModelConfig,
)
from ovamgen.config.models import (
    PlanConfig,
    RunConfig,
    RuntimeConfig,
    ShardConfig,
    SynthesisConfig,
)
from ovamgen.config.token_source import SHIPPED, TokenSource, bank_file, lacks, pairs_of
from ovamgen.storage.section import AS_KEYS, Section, validated

__all__ = [
    "AS_KEYS",
    "DEFAULT_MODEL",
    "DEFAULT_PROBE",
    "DEFAULT_REVISION",
    "FROM_FILE",
    "METHODS",
    "MODEL_IDENTITY",
    "NO_SCHEDULER",
    "RECORDED_SELF_ATTENTION",
    "SAMPLES_VERSION",
    "SHIPPED",
    "SHIPPED_HEADS",
    "TOKEN_TAU",
    "WORD_TAU",
    "AttributionConfig",
    "Branch",
    "CrfConfig",
    "LabelConfig",
    "Lora",
    "MaskConfig",
    "Method",
    "ModelConfig",
    "Normalisation",
    "PlanConfig",
    "RunConfig",
    "RuntimeConfig",
    "Section",
    "ShardConfig",
    "SynthesisConfig",
    "TokenSource",
    "bank_file",
    "build_config",
    "canonical_json",
    "check_method",
    "default_branch",
    "fingerprint",
    "fingerprint_of",
    "flatten",
    "identity",
    "is_preset_file",
    "lacks",
    "load_preset",
    "merge",
    "pairs_of",
    "parse_overrides",
    "preset_names",
    "read_config_file",
    "read_preset",
    "uses_head",
    "validated",
    "with_preset_file",
]
