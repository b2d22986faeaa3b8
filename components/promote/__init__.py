"""promote: a run's encoder, index and dataset -> an immutable release that servers follow, where the gate lets it.

Reads: dataset, encoder, index; evaluation, for its gate's verdict. Writes: release.json; in the store a copy of the
three under an address of their content, a record of why, and the pointer that serve follows.
Needs: no model and no GPU.
Guarantees: a closed gate changes nothing in the store and is no error; the pointer names whole artifacts only.
"""
