"""What all sections of a configuration have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values do not change once set."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
