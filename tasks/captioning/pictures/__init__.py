"""From picture files to numbers, once: decoding, image encoders, and what is kept on disk."""
