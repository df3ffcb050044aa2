"""The published scores of captions: BLEU, METEOR, ROUGE-L, CIDEr and SPICE."""
