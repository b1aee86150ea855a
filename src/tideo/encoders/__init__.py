"""Frames and Tideos → features of a dual encoder, and the memory that image features are projected onto."""
