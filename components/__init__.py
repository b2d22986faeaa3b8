"""The components, in the order the data flows; each is one container and one room.

check     addresses, records of a run -> can it work, what came of it
prepare   raw collection -> dataset
ask       dataset without queries -> the same with queries that an LLM wrote
mine      dataset (+ encoder, index) -> pools
annotate  pools -> annotations
train     annotations (+ human qrels) -> checkpoint
export    checkpoint -> encoder
index     encoder + corpus -> index
evaluate  encoders + indexes + held-out queries -> runs, metrics, report
answer    runs -> answers by an LLM, and what they are worth
collect   runs -> pools of a test collection; judged pools -> the collection, and whether it ranks as people do
promote   encoder, index, dataset, where the gate is open -> a release that servers follow
serve     encoder + index -> HTTP
shared    the nouns that cross a border between them
"""
