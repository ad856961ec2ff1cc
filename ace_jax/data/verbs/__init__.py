"""The subcommands of `python -m ace_jax.data`, one module each."""
