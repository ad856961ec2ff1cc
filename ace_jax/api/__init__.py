"""What `import ace_jax` offers to programs: thin functions over the packages, inputs checked."""
