"""The bounds of what is read from elsewhere; SECURITY.md has them as a table.

Each is far beyond what ovamgen writes, or what it can write at all. Whoever reads names the bound
that was passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

MAX_KEY_DIGITS = 11
"""Digits of a sample's key: six of the shard, five of the index."""
MAX_SHARDS = 10**6
"""Shards of an output, by those six digits."""
MAX_SHARD_SIZE = 10**5
"""Samples of a shard, and rows of its metadata, by those five digits."""

MAX_SIDE_PX = 32_768
"""Pixels of a picture's longer side."""
MAX_PIXELS = 64 * 2**20
"""Pixels of a picture; decoded it takes 192 MB."""
MAX_SCORED_PIXELS = 4 * 2**20
"""Pixels of a picture that a segmentor is scored on: each has a probability for every class."""

MAX_PICTURES = 10**7
"""Pictures that are labelled in one run."""
MAX_MEMBER_BYTES = 256 * 2**20
"""Size of a tar's member."""
MAX_HEADER_BYTES = 64 * 2**10
"""Size of a name, or of other words about a member, that stand before it in a tar."""
MAX_MEMBERS = 16
"""Members of a sample."""

MAX_HEATMAP_BYTES = 256 * 2**20
"""Unpacked size of a sample's stored heatmaps."""

MAX_YAML_BYTES = 4 * 2**20
"""Size of a YAML file: ``run.yaml``, configurations, class files."""
MAX_YAML_DEPTH = 64
"""Levels of YAML."""
MAX_YAML_NUMBER = 400
"""Characters of a number in YAML: the time to read one grows with the square of its length."""
MAX_YAML_VALUES = 50_000
"""Values of a YAML file, keys and lists included: reading them takes seconds."""

MAX_JSON_VALUES = 10**7
"""Values of a JSON file; a record of a manifest has eleven."""
MAX_JSON_DEPTH = 64
"""Levels of JSON."""
MAX_RECORD_BYTES = 64 * 2**10
"""Size of a shard's record."""
MAX_MARK_BYTES = 64 * 2**20
"""Size of ``selection.json``, ``export.json`` and ``INCOMPLETE.json``."""
MAX_MANIFEST_BYTES = 2**30
"""Size of ``manifest.json``."""

MAX_TABLE_BYTES = 2**30
"""Unpacked size of a Parquet table that is read whole."""
MAX_VIEW_ROWS = 10**8
"""Rows of a view's table."""

MAX_MODEL_CONFIG_BYTES = 4 * 2**20
"""Size of one JSON file of a model folder."""
MAX_TOKENIZER_BYTES = 32 * 2**20
"""Size of a tokenizer's files together."""
MAX_MODEL_SIZES: Mapping[str, int] = MappingProxyType(
    {
        "addition_embed_type_num_heads": 2**12,
        "addition_time_embed_dim": 2**15,
        "attention_head_dim": 2**12,
        "block_out_channels": 2**15,
        "cross_attention_dim": 2**16,
        "hidden_size": 2**16,
        "in_channels": 2**10,
        "intermediate_size": 2**18,
        "latent_channels": 2**10,
        "layers_per_block": 64,
        "max_position_embeddings": 2**14,
        "num_attention_heads": 2**12,
        "num_hidden_layers": 512,
        "num_train_timesteps": 10**5,
        "out_channels": 2**10,
        "projection_class_embeddings_input_dim": 2**18,
        "projection_dim": 2**16,
        "reverse_transformer_layers_per_block": 128,
        "sample_size": 2**12,
        "transformer_layers_per_block": 128,
        "vocab_size": 2**20,
    }
)
"""Numbers in the configurations of a model's parts; a network is built before its weights show."""
MAX_MODEL_LIST = 10**4
"""Entries of a list in such a configuration."""

MAX_WEIGHTS_HEADER_BYTES = 16 * 2**20
"""Size of the header of a model in one file, or of a LoRA."""
MAX_TENSORS = 2**16
"""Tensors of a model in one file, or of a LoRA."""

MAX_TOKENS_BYTES = 256 * 2**20
"""Size of a token bank, packed and unpacked."""
MAX_PICKLE_BYTES = 64 * 2**20
"""Size of the authors' token file."""
MAX_PICKLE_OPERATIONS = 10**5
"""Operations of the pickle in it; the released one has a few hundred."""
