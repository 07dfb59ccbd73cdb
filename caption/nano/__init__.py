"""The encoders that exnihilo fits itself."""
