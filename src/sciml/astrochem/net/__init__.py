"""Autoencoders of abundances and emulators of their latents."""
