"""promote: a run's encoder, index and dataset -> an immutable release that servers follow, where the gate lets it.

Reads: dataset, encoder, index, checkpoint; evaluation, for its gate's verdict. Writes: release.json; in the store
(releases.py) a copy of them under an address of their content, the pointer that serve follows, and a record of why.
Needs: no model and no GPU.
Guarantees: a closed gate changes nothing in the store and is no error; the pointer names whole artifacts only; of two
promotions at the same time one wins and the other is told, and a run that went on from a release takes the place of
that one only.
"""
