"""Low-complexity architecture search scored with sparse kernels (not built yet)."""
