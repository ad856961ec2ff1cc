"""What `python -m ace_jax.data` can do: one module per verb."""
