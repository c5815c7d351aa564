"""Letters of array axes, used as suffixes of names: ``logits_BMV``.

B batch · L target length · S source length · D model width · H heads · K key-value
heads · F feed-forward width · N layers (and documents, on the host) · V vocabulary ·
M beams · C children of a state or candidates · T row boundaries or time steps ·
E entries of a flat table · Q queries · J negatives · R runs · P parameters of a law.

A merged axis is written ``x`` and then underscores separate axes: ``logits_BxM_V``.
An axis of length one is ``1``. No suffix means a scalar or a pytree.
"""
