"""The engines. A new engine is one folder and one line here."""

from luthier.registry import Registry

ENGINES = Registry(
    "engine",
    {
        "torch": "luthier.engines.torch:ENGINE",
        "tensorflow": "luthier.engines.keras:TENSORFLOW",
        "jax": "luthier.engines.keras:JAX",
    },
)
