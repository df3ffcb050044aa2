"""The layouts that captioned pictures are published in, each read to a `CaptionSet`."""
