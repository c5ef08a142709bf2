"""The libraries whose versions enter the fingerprint of a step that the trainer works for."""

# What can change a trained weight or a generated token.
TRAINER_LIBRARIES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tokenizers",
    "safetensors",
    "numpy",
    "ml-dtypes",
)
