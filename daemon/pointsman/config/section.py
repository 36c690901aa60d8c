"""What every part of the file is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
SecretRef = Annotated[
    str, Field(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.+|credential:[A-Za-z0-9._-]+)$")
]
PositiveSeconds = Annotated[float, Field(gt=0, le=86_400)]


class Section(BaseModel):
    """A part of the file: unknown keys are errors, values are never guessed into another type."""

    # Inputs stay out of error texts: a secret pasted in the wrong place must not reach a log.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )
