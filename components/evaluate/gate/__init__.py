"""gate: what a candidate must show against production before it may take its place; a policy file declares it.

The verdict is one word in gate.txt, for a KFP `If` or an Argo `when`, and gate.json has the reasons. A gate that fails
is a result and no error: the job that wrote it ends with 0.
"""
