"""How the embedded base is made: its tokenizer, its batches, its training, and the measurements on its
card.
"""
