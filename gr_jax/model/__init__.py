"""T5 and LLaMA families behind one protocol; accounting; weights in and out."""
