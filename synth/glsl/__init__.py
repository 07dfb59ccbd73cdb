"""Shader building blocks, the composer of programs, and the OpenGL context that draws them."""
